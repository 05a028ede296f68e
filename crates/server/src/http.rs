//! HTTP/1.1 for monitoring: some `GET`s, on the core thread.
//!
//! Bounds: [`MAX_CONNECTIONS`] at a time (a 503 beyond), the header of a request in bytes, fields and time, a connection's whole life. Bodies of
//! requests are not read. What is answered is `monitor`'s.

use std::cell::Cell;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ACCESS_CONTROL_ALLOW_ORIGIN, ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::monitor::{Monitor, Page};

/// At a time.
const MAX_CONNECTIONS: usize = 32;
/// Bytes of a request's header; hyper's least.
const MAX_HEADER: usize = 8 * 1024;
/// Fields of a request's header.
const MAX_FIELDS: usize = 64;
/// From accept, or from the last answer, to the end of a request's header.
const HEADER_PATIENCE: Duration = Duration::from_secs(10);
/// A connection lives no longer: whoever does not read its answers gives its place back.
const LIFE: Duration = Duration::from_secs(120);

/// For the monitoring listener.
pub fn accept_http(monitor: Monitor) -> impl FnMut(TcpStream, SocketAddr) {
    accept_http_with(monitor, HEADER_PATIENCE)
}

/// The same with another patience for requests.
pub fn accept_http_with(monitor: Monitor, patience: Duration) -> impl FnMut(TcpStream, SocketAddr) {
    let open = Rc::new(Cell::new(0));
    move |stream, _| {
        let (monitor, open) = (monitor.clone(), Rc::clone(&open));
        tokio::task::spawn_local(async move {
            if open.get() >= MAX_CONNECTIONS {
                return refuse(stream).await;
            }
            open.set(open.get() + 1);
            serve(stream, monitor, patience).await;
            open.set(open.get() - 1);
        });
    }
}

async fn refuse(mut stream: TcpStream) {
    const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    let _ = stream.write_all(FULL).await;
}

/// Serves one connection to its end.
pub(crate) async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin + 'static, monitor: Monitor, patience: Duration) {
    let service = service_fn(move |request: Request<Incoming>| {
        let monitor = monitor.clone();
        async move { Ok::<_, Infallible>(answer(&monitor, &request).await) }
    });
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(patience).max_buf_size(MAX_HEADER).max_headers(MAX_FIELDS);
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    if let Ok(Err(error)) = tokio::time::timeout(LIFE, pin!(connection)).await {
        tracing::debug!(%error, "monitoring connection");
    }
}

async fn answer(monitor: &Monitor, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let (path, query) = (request.uri().path(), request.uri().query().unwrap_or(""));
    if request.method() == Method::POST
        && let Some(page) = monitor.operation(path, query).await
    {
        return page_response(page);
    }
    if request.method() != Method::GET && request.method() != Method::HEAD {
        let mut refusal = Response::new(Full::default());
        *refusal.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
        refusal.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return refusal;
    }
    page_response(monitor.page(path, query).await)
}

fn page_response(Page { status, content_type, body }: Page) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    if content_type.starts_with("application/json") {
        // As nats-server: pages of other hosts may show the figures.
        response.headers_mut().insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    }
    response
}
