//! Stream templates, as nats-server had them from 2.2 to 2.10.

use crate::json;
use crate::request::{Kind, Parsed, no_body, offset, settle};
use crate::response::envelope;
use crate::stream_config::{self, Purpose, WireStreamConfig};
use jetstream::api_error::{self, ApiError};
use jetstream::command::Request;
use jetstream::templates::{NO_NAME, TemplateInfo};
use serde::Serialize;

/// Reads a request; `operation` and `name` are what stands behind `STREAM.TEMPLATE.`.
pub(crate) fn template(operation: &str, name: Option<&str>, payload: &[u8]) -> Parsed {
    match (operation, name) {
        ("CREATE", Some(name)) => settle(Kind::TemplateCreate, create(name, payload)),
        ("NAMES", None) => settle(Kind::TemplateNames, names(payload)),
        ("INFO", Some(name)) => {
            settle(Kind::TemplateInfo, no_body(payload).map(|()| Request::TemplateInfo { name: name.into() }))
        }
        ("DELETE", Some(name)) => {
            settle(Kind::TemplateDelete, no_body(payload).map(|()| Request::TemplateDelete { name: name.into() }))
        }
        _ => Parsed::Unknown,
    }
}

fn create(name: &str, payload: &[u8]) -> Result<Request, ApiError> {
    let mut body = json::parse(payload, "StreamTemplateConfig")?;
    let given = body.text_or_empty("name")?;
    let mut draft = stream_config::read(body.object("config", "StreamConfig")?)?;
    let max_streams = body.unsigned("max_streams")?;
    body.finish()?;
    if given != name {
        return Err(api_error::TEMPLATE_NAME_NOT_MATCH_SUBJECT);
    }
    if !draft.name().is_empty() {
        return Err(api_error::stream_template_create("template config name should be empty"));
    }
    draft.call(NO_NAME);
    let config = Box::new(draft.finish(Purpose::Create)?);
    let max_streams = u32::try_from(max_streams).unwrap_or(u32::MAX);
    Ok(Request::TemplateCreate { name: name.into(), config, max_streams })
}

fn names(payload: &[u8]) -> Result<Request, ApiError> {
    let mut body = json::parse(payload, "JSApiStreamTemplatesRequest")?;
    let offset = offset(&mut body)?;
    body.finish()?;
    Ok(Request::TemplateNames { offset })
}

#[derive(Serialize)]
struct WireTemplateInfo<'a> {
    config: WireTemplate<'a>,
    streams: &'a [Box<str>],
}

#[derive(Serialize)]
struct WireTemplate<'a> {
    name: &'a str,
    config: WireStreamConfig<'a>,
    max_streams: u32,
}

/// Appends a template as requests show it.
pub(crate) fn encode_template(kind: Kind, info: &TemplateInfo, version: &str, into: &mut Vec<u8>) {
    let config = WireStreamConfig::new(&info.config, version);
    let config = WireTemplate { name: &info.name, config, max_streams: info.max_streams };
    envelope(kind, &WireTemplateInfo { config, streams: &info.streams }, into);
}
