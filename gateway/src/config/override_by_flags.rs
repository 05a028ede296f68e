//! Flags override the file, as in nats-server.

use std::path::PathBuf;
use std::time::Duration;

use nats_conf::Report;

use super::authorization::from_flags;
use super::listeners::Address;
use super::tls::{HandshakeFirst, TIMEOUT, Tls};
use super::top_level::Draft;
use crate::arguments::Options;

pub(super) fn apply(options: &Options, draft: &mut Draft, report: &mut Report) {
    listeners(options, draft);
    credentials(options, draft);
    tls(options, draft, report);
    log(options, draft);
    if let Some(name) = &options.name {
        draft.server_name = Some(name.clone());
    }
    if let Some(enabled) = options.jetstream {
        draft.jetstream.enabled = Some(enabled);
    }
    let path = |text: &Option<String>| text.as_ref().map(PathBuf::from);
    draft.jetstream.store_dir = path(&options.store_dir).or(draft.jetstream.store_dir.take());
    draft.pid_file = path(&options.pid).or(draft.pid_file.take());
    draft.ports_file_dir = path(&options.ports_file_dir).or(draft.ports_file_dir.take());
}

fn listeners(options: &Options, draft: &mut Draft) {
    if let Some(host) = &options.addr {
        draft.client.host = Some(host.clone());
    }
    if let Some(port) = options.port {
        draft.client.port = Some(port);
    }
    if let Some(port) = options.http_port {
        let host = draft.monitoring.take().and_then(|address| address.host);
        draft.monitoring = Some(Address { host, port: Some(port) });
    }
    if let Some(advertise) = &options.client_advertise {
        draft.client_advertise = Some(advertise.clone());
    }
}

fn credentials(options: &Options, draft: &mut Draft) {
    let flags = from_flags(options.user.as_deref(), options.pass.as_deref(), options.auth.as_deref());
    if let Some(credentials) = flags {
        draft.authorization.credentials = credentials;
    }
}

fn tls(options: &Options, draft: &mut Draft, report: &mut Report) {
    let named = options.tlscert.is_some() || options.tlskey.is_some() || options.tlscacert.is_some();
    if !named && options.tls != Some(true) && options.tlsverify != Some(true) {
        return;
    }
    let path = |text: &Option<String>| text.as_ref().map(PathBuf::from);
    let file = draft.client_tls.take();
    let cert_file = path(&options.tlscert).or_else(|| Some(file.as_ref()?.cert_file.clone()));
    let key_file = path(&options.tlskey).or_else(|| Some(file.as_ref()?.key_file.clone()));
    let (Some(cert_file), Some(key_file)) = (cert_file, key_file) else {
        report.conflict("TLS needs a certificate and its key: expected -tlscert and -tlskey");
        return;
    };
    let ca_file = path(&options.tlscacert).or_else(|| file.as_ref()?.ca_file.clone());
    for path in [Some(&cert_file), Some(&key_file), ca_file.as_ref()].into_iter().flatten() {
        if let Err(error) = std::fs::File::open(path) {
            report.conflict(format!("open {}: {error}", path.display()));
        }
    }
    let timeout = file.as_ref().map_or(TIMEOUT, |tls| tls.timeout.max(Duration::from_millis(1)));
    draft.client_tls = Some(Tls {
        cert_file,
        key_file,
        ca_file,
        verify: options.tlsverify.unwrap_or(file.as_ref().is_some_and(|tls| tls.verify)),
        timeout,
        handshake_first: file.as_ref().map_or(HandshakeFirst::Never, |tls| tls.handshake_first),
        only_13: file.as_ref().is_some_and(|tls| tls.only_13),
    });
}

fn log(options: &Options, draft: &mut Draft) {
    let log = &mut draft.log;
    log.file = options.log.as_ref().map(PathBuf::from).or(log.file.take());
    log.size_limit = options.log_size_limit.unwrap_or(log.size_limit);
    log.max_traced_length = options.max_traced_msg_len.unwrap_or(log.max_traced_length);
    log.debug = options.debug.unwrap_or(log.debug);
    log.trace = options.trace.unwrap_or(log.trace);
    log.time = options.logtime.unwrap_or(log.time);
    log.utc = options.logtime_utc.unwrap_or(log.utc);
}
