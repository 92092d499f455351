//! A body that is sent while it is made, and ends whole only when its maker says so.
//!
//! Whoever takes a part for the whole is misled, so a maker that fails, panics or is stopped leaves a body without its
//! end: HTTP's last chunk is missing, and every client can tell.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes};
use futures_core::Stream;
use tokio::sync::mpsc;

/// Whoever makes the body.
pub struct Pieces(mpsc::Sender<Piece>);

enum Piece {
    Data(Bytes),
    End,
}

/// A body, and whoever makes it; so many pieces wait for the client.
pub fn pieces(count: usize) -> (Pieces, Body) {
    let (sender, receiver) = mpsc::channel(count);
    (Pieces(sender), Body::from_stream(Sent { receiver, has_ended: false }))
}

impl Pieces {
    /// Gives a piece to the connection. Returns whether the client is still there.
    pub async fn send(&self, piece: Bytes) -> bool {
        self.0.send(Piece::Data(piece)).await.is_ok()
    }

    /// That was all of it.
    pub async fn end(self) {
        // Whoever has gone needs no end.
        let _ = self.0.send(Piece::End).await;
    }

    /// That was all of it, if there is room to say so; the body breaks off otherwise.
    pub fn end_now(self) {
        let _ = self.0.try_send(Piece::End);
    }

    /// Waits until the client is gone.
    pub async fn closed(&self) {
        self.0.closed().await;
    }
}

struct Sent {
    receiver: mpsc::Receiver<Piece>,
    has_ended: bool,
}

impl Stream for Sent {
    type Item = Result<Bytes, BrokenOff>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.has_ended {
            return Poll::Ready(None);
        }
        self.receiver.poll_recv(context).map(|piece| match piece {
            Some(Piece::Data(bytes)) => Some(Ok(bytes)),
            Some(Piece::End) => {
                self.has_ended = true;
                None
            }
            None => Some(Err(BrokenOff)),
        })
    }
}

/// The body was not made to its end.
#[derive(Debug)]
struct BrokenOff;

impl fmt::Display for BrokenOff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the body broke off")
    }
}

impl std::error::Error for BrokenOff {}

#[cfg(test)]
mod tests {
    use axum::body::to_bytes;

    use super::*;

    #[test]
    fn only_a_body_that_was_ended_is_whole() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let (maker, body) = pieces(2);
            assert!(maker.send(Bytes::from_static(b"x")).await);
            maker.end().await;
            assert_eq!(to_bytes(body, 9).await.unwrap(), "x");
            let (maker, body) = pieces(2);
            assert!(maker.send(Bytes::from_static(b"x")).await);
            drop(maker);
            assert!(to_bytes(body, 9).await.is_err());
        });
    }
}
