//! A TCP connection to a host, over links that lose the first packet.
//!
//! A kernel repeats a lost SYN after 1, 3, 7 seconds: a link that comes back in between would stay unused for seconds. So a dial that hangs is
//! repeated beside itself, with the name resolved anew, and the first connection wins; the others are dropped.

use std::io;
use std::time::Duration;

use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// What the kernel may take of a link that can't send it yet, bytes: heartbeats and answers wait behind it, and nobody here sees it.
const UNSENT: u32 = 64 * 1024;
/// Dials that may be under way to one host at a time. The kernel repeats the packets of each, and each has a thread of its own while it looks the name up.
const SIDE_BY_SIDE: usize = 4;

/// Connects; another attempt begins whenever `again` has passed without an answer. Waits for ever: the caller sets the limit.
pub(super) async fn connect(host: &str, port: u16, again: Duration) -> io::Result<TcpStream> {
    first_of(again, || {
        let place = (host.to_owned(), port);
        async move {
            let stream = TcpStream::connect((place.0.as_str(), place.1)).await?;
            stream.set_nodelay(true)?;
            // Where the kernel has no such option, a slow link is only less prompt.
            let _ = SockRef::from(&stream).set_tcp_notsent_lowat(UNSENT);
            Ok(stream)
        }
    })
    .await
}

/// The first success of attempts that begin `again` apart, or the first failure: who is refused is there.
async fn first_of<T, F>(again: Duration, attempt: impl Fn() -> F) -> io::Result<T>
where
    T: 'static,
    F: Future<Output = io::Result<T>> + 'static,
{
    let mut attempts = JoinSet::new();
    attempts.spawn_local(attempt());
    loop {
        tokio::select! {
            Some(ended) = attempts.join_next() => return ended.map_err(io::Error::other)?,
            () = tokio::time::sleep(again), if attempts.len() < SIDE_BY_SIDE => {
                attempts.spawn_local(attempt());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;

    use super::*;

    fn run<T>(test: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        tokio::task::LocalSet::new().block_on(&runtime, test)
    }

    #[test]
    fn an_attempt_that_hangs_does_not_hold_up_the_next() {
        let begun = Rc::new(Cell::new(0));
        let counted = Rc::clone(&begun);
        let winner = run(first_of(Duration::from_millis(2), move || {
            counted.set(counted.get() + 1);
            let number = counted.get();
            async move {
                if number < SIDE_BY_SIDE {
                    std::future::pending::<()>().await;
                }
                Ok(number)
            }
        }));
        assert_eq!((winner.unwrap(), begun.get()), (SIDE_BY_SIDE, SIDE_BY_SIDE));
    }

    #[test]
    fn a_slow_first_attempt_wins_over_slower_ones() {
        let begun = Rc::new(Cell::new(0));
        let counted = Rc::clone(&begun);
        let winner = run(first_of(Duration::from_millis(50), move || {
            counted.set(counted.get() + 1);
            let number = counted.get();
            async move {
                tokio::time::sleep(Duration::from_millis(400)).await;
                Ok(number)
            }
        }));
        assert_eq!(winner.unwrap(), 1);
        assert!((2..=SIDE_BY_SIDE).contains(&begun.get()));
    }

    #[test]
    fn a_refusal_ends_the_dial() {
        let refused = || async { Err::<(), _>(io::ErrorKind::ConnectionRefused.into()) };
        let error = run(first_of(Duration::from_secs(60), refused)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }
}
