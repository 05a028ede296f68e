//! `leafnodes`: the links that we dial. Accepting leaf links is the hub's side, and not built here.

use std::path::PathBuf;
use std::time::Duration;

use nats_conf::{Block, Field, Kind, Report};
use subject::Filter;

use super::files;
use super::limits::positive;
use super::listeners::read_address;
use super::secret::Secret;
use super::tls::{self, RemoteTls};

/// The links that we dial.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LeafNodes {
    /// `remotes`, in the order of the file.
    pub remotes: Vec<Remote>,
    /// `reconnect`: the first pause before a new dial. Default: [`super::Uplink::reconnect_min`].
    pub reconnect: Option<Duration>,
}

/// A hub, and how to get there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remote {
    /// `url`, `urls`: nats-leaf, nats, tls, ws or wss, all of one kind; never empty. They may hold a user and a password.
    pub urls: Vec<Secret>,
    /// `credentials`: a `.creds` file with JWT and seed. Checked to be there. Default: none.
    pub credentials: Option<PathBuf>,
    /// `nkey`: a file with a seed. Checked to be there. Default: none.
    pub nkey: Option<PathBuf>,
    /// `tls`. Default: none; TLS is spoken all the same when a URL or the hub wants it.
    pub tls: Option<RemoteTls>,
    /// `deny_imports`: what the hub must not send. Default: nothing.
    pub deny_imports: Vec<String>,
    /// `deny_exports`: what we don't send. Default: nothing.
    pub deny_exports: Vec<String>,
    /// `no_randomize`: dial in the order written. Default: false.
    pub no_randomize: bool,
    /// `ignore_discovered_servers`: dial only what is written. Default: false.
    pub ignore_discovered: bool,
    /// `request_isolation`: ask the hub to keep other leaf links' interest to itself. Default: false.
    pub request_isolation: bool,
    /// `first_info_timeout`. Default: [`super::Uplink::first_info_timeout`].
    pub first_info_timeout: Option<Duration>,
    /// `dial_timeout`. Default: [`super::Uplink::dial_timeout`].
    pub dial_timeout: Option<Duration>,
    /// `websocket_no_masking`: frames go unmasked where the hub agrees. Default: false.
    pub websocket_no_masking: bool,
}

impl Remote {
    /// To the same hub, and there as the same user?
    fn shares_a_link_with(&self, other: &Remote) -> bool {
        self.urls.iter().any(|url| other.urls.contains(url))
            && self.credentials == other.credentials
            && self.nkey == other.nkey
            && self.tls.as_ref().map(|tls| &tls.identity) == other.tls.as_ref().map(|tls| &tls.identity)
    }
}

const SCHEMES: [&str; 5] = ["nats-leaf", "nats", "tls", "ws", "wss"];

pub(super) fn read(field: &Field<'_>, report: &mut Report) -> LeafNodes {
    let mut leafnodes = LeafNodes::default();
    let Some(mut block) = field.block(report) else { return leafnodes };
    accepting_side(&mut block, field, report);
    if let Some(field) = block.field(&["reconnect", "reconnect_delay", "reconnect_interval"]) {
        // Stock takes whole seconds without a warning.
        leafnodes.reconnect = field.seconds(report).filter(|pause| !pause.is_zero());
    }
    let dial_timeout = block.field(&["dial_timeout"]).and_then(|field| positive(&field, report));
    if let Some(remotes) = block.field(&["remotes"]).and_then(|field| field.list(report)) {
        for field in &remotes {
            let Some(remote) = read_remote(field, report) else { continue };
            // The hub would let each evict the other, for ever.
            let same = |other: &Remote| other.shares_a_link_with(&remote);
            if leafnodes.remotes.iter().any(same) {
                report.error(field.position, "leafnode remote: another remote goes to the same hub as the same user");
            }
            leafnodes.remotes.push(remote);
        }
    }
    for remote in &mut leafnodes.remotes {
        remote.dial_timeout = remote.dial_timeout.or(dial_timeout);
    }
    block.finish(report);
    leafnodes
}

/// Tools put `port: -1` into every file: that is taken, any other port is a wish that we can't fulfil.
fn accepting_side(block: &mut Block<'_>, field: &Field<'_>, report: &mut Report) {
    let address = read_address(block, report);
    match address.port {
        Some(-1) => report.notice(field.position, "leafnodes: port -1 is not opened: leaf links are not accepted here"),
        Some(_) => report.error(field.position, "leafnodes: accepting leaf links (listen, port) is not supported"),
        None => {}
    }
    let why = "leaf links are not accepted here";
    block.without_effect(
        &["leafnode_advertise", "advertise", "no_advertise", "write_deadline", "write_timeout"],
        why,
        report,
    );
    block.refuse(
        &["authorization", "tls", "min_version", "minimum_version", "isolate_leafnode_interest", "isolate"],
        report,
    );
    compression(block, report);
}

/// Compression is declined cleanly on the wire, whatever the mode.
fn compression(block: &mut Block<'_>, report: &mut Report) {
    let Some(field) = block.field(&["compression"]) else { return };
    let off = match &field.value.kind {
        Kind::Boolean(on) => !on,
        Kind::String(mode) => mode.eq_ignore_ascii_case("off"),
        _ => false,
    };
    if !off {
        report.notice(field.position, "field \"compression\" has no effect: compression is declined");
    }
}

fn read_remote(field: &Field<'_>, report: &mut Report) -> Option<Remote> {
    let mut block = field.block(report)?;
    let urls = match block.field(&["url", "urls"]) {
        Some(urls) => read_urls(&urls, report),
        None => {
            report.error(field.position, "a leafnode remote needs \"url\" or \"urls\"");
            Vec::new()
        }
    };
    local_account(&mut block, report);
    let file = |field: Option<Field<'_>>, report: &mut Report| field.and_then(|field| files::existing(&field, report));
    let flag =
        |field: Option<Field<'_>>, report: &mut Report| field.and_then(|field| field.boolean(report)).unwrap_or(false);
    let remote = Remote {
        urls,
        credentials: file(block.field(&["creds", "credentials"]), report),
        nkey: file(block.field(&["nkey", "seed"]), report),
        tls: block.field(&["tls"]).and_then(|field| tls::read_remote(&field, report)),
        deny_imports: denied(&mut block, &["deny_imports", "deny_import"], report),
        deny_exports: denied(&mut block, &["deny_exports", "deny_export"], report),
        no_randomize: flag(block.field(&["no_randomize", "dont_randomize"]), report),
        ignore_discovered: flag(block.field(&["ignore_discovered_servers"]), report),
        request_isolation: flag(block.field(&["request_isolation"]), report),
        first_info_timeout: block.field(&["first_info_timeout"]).and_then(|field| positive(&field, report)),
        dial_timeout: block.field(&["dial_timeout"]).and_then(|field| positive(&field, report)),
        websocket_no_masking: flag(block.field(&["ws_no_masking", "websocket_no_masking"]), report),
    };
    if remote.credentials.is_some() && remote.nkey.is_some() {
        report.error(field.position, "a leafnode remote takes \"credentials\" or \"nkey\", not both");
    }
    let disabled = flag(block.field(&["disabled"]), report);
    unsupported_in_remote(&mut block, report);
    block.finish(report);
    (!disabled).then_some(remote)
}

fn unsupported_in_remote(block: &mut Block<'_>, report: &mut Report) {
    compression(block, report);
    let websocket = ["ws_compress", "ws_compression", "websocket_compress", "websocket_compression"];
    block.without_effect(&websocket, "compression is declined", report);
    block.without_effect(&["jetstream_cluster_migrate", "js_cluster_migrate"], "there is no cluster here", report);
    if let Some(field) = block.field(&["hub"])
        && field.boolean(report) == Some(true)
    {
        report.error(
            field.position,
            "field \"hub\" is not supported: a gateway is never the hub of a link that it dials",
        );
    }
    block.refuse(&["proxy", "isolate_leafnode_interest", "isolate"], report);
}

/// There is one account: `$G`.
fn local_account(block: &mut Block<'_>, report: &mut Report) {
    let Some(field) = block.field(&["account", "local"]) else { return };
    if let Some(account) = field.string(report)
        && account != "$G"
    {
        report.error(field.position, format!("cannot find local account {account:?} specified in leafnode remote"));
    }
}

fn denied(block: &mut Block<'_>, names: &[&str], report: &mut Report) -> Vec<String> {
    let Some(field) = block.field(names) else { return Vec::new() };
    let filters = field.strings(report).unwrap_or_default();
    for filter in filters.iter().filter(|filter| Filter::parse(filter).is_err()) {
        report.error(field.position, format!("subject {filter:?} is not a valid subject"));
    }
    filters
}

fn read_urls(field: &Field<'_>, report: &mut Report) -> Vec<Secret> {
    let mut urls = Vec::new();
    let mut websockets = 0;
    for element in field.elements() {
        let Some(url) = element.string(report) else { continue };
        // A bare host:port is one for stock too.
        let (scheme, rest) = url.split_once("://").unwrap_or(("nats-leaf", url));
        let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
        // The text may hold a password: it is not repeated.
        if !SCHEMES.contains(&scheme) {
            let text = format!("leafnode remote: unknown scheme {scheme:?}, expected one of {}", SCHEMES.join(", "));
            report.error(element.position, text);
        } else if host.is_empty() || host.starts_with([':', '/']) || url.contains(char::is_whitespace) {
            report.error(element.position, "leafnode remote: expected a URL such as nats-leaf://hub.example:7422");
        }
        websockets += usize::from(scheme == "ws" || scheme == "wss");
        urls.push(Secret::new(url));
    }
    if urls.is_empty() {
        report.error(field.position, "a leafnode remote needs at least one URL");
    }
    if websockets > 0 && websockets < urls.len() {
        report.error(
            field.position,
            "remote leaf node configuration cannot have a mix of websocket and non-websocket urls",
        );
    }
    urls
}
