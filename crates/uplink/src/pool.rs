//! The addresses of a remote: those of the file, those that a hub's INFO names, and which of them is dialled next.

use nats_proto::handshake::LeafInfo;

use crate::address::{Address, MAX_ADDRESS_LENGTH};
use crate::backoff::Random;
use crate::config::Config;
use crate::info::MAX_DISCOVERED;

/// One of them.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    pub(crate) address: Address,
    /// Name to verify the certificate against: the configured host, also for discovered addresses.
    pub(crate) server_name: String,
    discovered: bool,
}

/// Never empty.
#[derive(Debug)]
pub(crate) struct Pool {
    candidates: Vec<Candidate>,
    current: usize,
    /// Dials of this round; when all candidates had one, the pause grows. 0: the current one was up.
    tried: usize,
}

impl Pool {
    /// The configured ones, of which there is one at least.
    pub(crate) fn new(config: &Config, random: &mut Random) -> Pool {
        let mut candidates: Vec<Candidate> = config
            .addresses
            .iter()
            .map(|address| Candidate { server_name: address.host.clone(), address: address.clone(), discovered: false })
            .collect();
        if !config.no_randomize {
            random.shuffle(&mut candidates);
        }
        Pool { candidates, current: 0, tried: 0 }
    }

    /// The one dialled now or next.
    pub(crate) fn current(&self) -> &Candidate {
        &self.candidates[self.current]
    }

    /// Is there another one?
    pub(crate) fn has_others(&self) -> bool {
        self.candidates.len() > 1
    }

    pub(crate) fn dialled(&mut self) {
        self.tried += 1;
    }

    pub(crate) fn is_up(&mut self) {
        self.tried = 0;
    }

    /// The current one is left for the next.
    pub(crate) fn leave(&mut self) {
        self.current = (self.current + 1) % self.candidates.len();
    }

    /// The next one; one that was up comes first once more. Returns whether all of them had their turn.
    pub(crate) fn advance(&mut self) -> bool {
        let was_up = self.tried == 0;
        if !was_up {
            self.leave();
        }
        let round_is_over = was_up || self.tried >= self.candidates.len();
        if round_is_over {
            self.tried = 0;
        }
        round_is_over
    }

    /// Takes over the addresses that the hub's INFO names: those no longer named go, the one in use stays.
    pub(crate) fn discover(&mut self, config: &Config, info: &LeafInfo, random: &mut Random) {
        if !config.use_discovered {
            return;
        }
        let current = self.current().clone();
        let scheme = current.address.scheme;
        let named = if scheme.is_websocket() { Some(&info.ws_connect_urls) } else { info.leafnode_urls.as_ref() };
        let Some(named) = named else { return };
        let server_name = current.server_name.clone();
        let mut fresh: Vec<Candidate> = Vec::new();
        for text in named.iter().take(MAX_DISCOVERED).filter(|text| text.len() <= MAX_ADDRESS_LENGTH) {
            let Ok(mut address) = Address::parse(text) else { continue };
            address.scheme = scheme;
            let configured = config.addresses.iter().any(|known| known.is_same_place(&address));
            if !configured && !fresh.iter().any(|known| known.address.is_same_place(&address)) {
                fresh.push(Candidate { address, server_name: server_name.clone(), discovered: true });
            }
        }
        if !config.no_randomize {
            random.shuffle(&mut fresh);
        }
        let is_current = |candidate: &Candidate| candidate.address.is_same_place(&current.address);
        let mut pool = fresh; // discovered first, then configured, as stock does
        pool.extend(self.candidates.drain(..).filter(|candidate| !candidate.discovered));
        if !pool.iter().any(is_current) {
            pool.insert(0, current.clone());
        }
        self.current = pool.iter().position(is_current).unwrap_or(0);
        self.candidates = pool;
    }
}
