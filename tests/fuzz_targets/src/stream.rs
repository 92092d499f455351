//! The frames of a replication stream, both ways, and of everything else that is framed.
//!
//! The input is what comes over the wire. What is read is written as it was, or shorter: the digits of a number and the
//! parts of a key have one form only where the program wrote them.

use bank_server::limits::STREAM_FRAME_BYTES;
use bank_server::replication::wire::{ToReplica, push_acknowledge, read_acknowledge};
use protocol::frame::{HEADER_BYTES, push_frame, read_frame};

/// Reads frames to the end.
///
/// # Panics
/// When a frame that was read is written otherwise and read as another.
pub fn run(bytes: &[u8]) {
    let mut rest = bytes;
    let mut body = Vec::new();
    while let Ok(true) = read_frame(&mut rest, STREAM_FRAME_BYTES, &mut body) {
        read(&body);
    }
    read(bytes);
}

fn read(body: &[u8]) {
    let mut frame = Vec::new();
    if push_frame(&mut frame, body, STREAM_FRAME_BYTES).is_ok() {
        let mut again = Vec::new();
        assert!(matches!(read_frame(&mut &frame[..], STREAM_FRAME_BYTES, &mut again), Ok(true)));
        assert_eq!(again, body);
    }
    if let Ok(read) = ToReplica::read(body) {
        let mut written = Vec::new();
        read.push(&mut written).expect("what came in a frame goes into one");
        // A real number may be none (NaN), which equals nothing; what is written says the same.
        let again = ToReplica::read(&written[HEADER_BYTES..]).expect("what is written is read");
        let mut twice = Vec::new();
        again.push(&mut twice).expect("what came in a frame goes into one");
        assert_eq!(twice, written);
    }
    if let Ok(sequence) = read_acknowledge(body) {
        let mut written = Vec::new();
        push_acknowledge(&mut written, sequence);
        assert_eq!(read_acknowledge(&written[HEADER_BYTES..]), Ok(sequence));
    }
}
