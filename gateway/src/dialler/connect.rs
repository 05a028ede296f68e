//! A TCP connection to a host, over links that lose the first packet.
//!
//! A kernel repeats a lost SYN after 1, 3, 7 seconds: a link that comes back in between would stay unused for seconds. So a dial that hangs is
//! repeated beside itself, with the name resolved anew, and the first connection wins; the others are dropped.

use std::io;
use std::pin::pin;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// Dials that may be under way to one host at a time; the oldest is given up for a new one.
const SIDE_BY_SIDE: usize = 4;

/// Connects; another attempt begins whenever `again` has passed without an answer. Waits for ever: the caller sets the limit.
pub(super) async fn connect(host: &str, port: u16, again: Duration) -> io::Result<TcpStream> {
    first_of(again, || {
        let place = (host.to_owned(), port);
        async move {
            let stream = TcpStream::connect((place.0.as_str(), place.1)).await?;
            stream.set_nodelay(true)?;
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
    let mut order = std::collections::VecDeque::new();
    loop {
        if order.len() == SIDE_BY_SIDE
            && let Some(oldest) = order.pop_front()
        {
            let oldest: tokio::task::AbortHandle = oldest;
            oldest.abort();
        }
        order.push_back(attempts.spawn_local(attempt()));
        let mut pause = pin!(tokio::time::sleep(again));
        loop {
            tokio::select! {
                ended = attempts.join_next() => match ended {
                    Some(Ok(result)) => return result,
                    // One that was given up.
                    Some(Err(_)) => {}
                    None => break,
                },
                () = &mut pause => break,
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
                if number < 7 {
                    std::future::pending::<()>().await;
                }
                Ok(number)
            }
        }));
        assert_eq!(winner.unwrap(), 7);
        assert_eq!(begun.get(), 7);
    }

    #[test]
    fn a_slow_first_attempt_wins_over_slower_ones() {
        let begun = Rc::new(Cell::new(0));
        let counted = Rc::clone(&begun);
        let winner = run(first_of(Duration::from_millis(50), move || {
            counted.set(counted.get() + 1);
            let number = counted.get();
            async move {
                tokio::time::sleep(Duration::from_millis(120)).await;
                Ok(number)
            }
        }));
        assert_eq!(winner.unwrap(), 1);
        assert!(begun.get() > 1);
    }

    #[test]
    fn a_refusal_ends_the_dial() {
        let refused = || async { Err::<(), _>(io::ErrorKind::ConnectionRefused.into()) };
        let error = run(first_of(Duration::from_secs(60), refused)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }
}
