//! Somebody on the wire who is neither side.

use rsock_wire::{M, frame};

use crate::{link::Pipe, op::Op};

/// Does to what is on its way what a hostile operation says. `idle` says whose last frame is whole
/// on the wire.
pub(crate) fn disturb(op: Op, pipes: &mut [Pipe; 2], idle: [bool; 2]) {
    match op {
        Op::Flip { who, at, bits } => {
            let bytes = &mut pipes[1 - who].bytes;
            let len = bytes.len();
            if len > 0 {
                bytes[at as usize % len] ^= bits;
            }
        }
        Op::Lose { who, at, bytes } => splice(&mut pipes[1 - who], at, bytes, 0),
        Op::Repeat { who, at, bytes } => splice(&mut pipes[1 - who], at, bytes, 2),
        Op::Forge { who, kind, flags, stream, number, bytes } if idle[1 - who] => {
            let frame = forge(kind, flags, stream, number, bytes);
            let pipe = &mut pipes[1 - who];
            let wrapped = pipe.wrap(&frame);
            pipe.bytes.extend_from_slice(&wrapped);
        }
        _ => {}
    }
}

/// Has some bytes on their way arrive so many times.
fn splice(pipe: &mut Pipe, at: u32, bytes: u32, times: usize) {
    let len = pipe.bytes.len();
    if len == 0 {
        return;
    }
    let from = at as usize % len;
    let to = len.min(from + bytes as usize);
    let behind = pipe.bytes.split_off(to);
    let some = pipe.bytes.split_off(from);
    for _ in 0..times {
        pipe.bytes.extend_from_slice(&some);
    }
    pipe.bytes.unsplit(behind);
}

/// A frame that might be one, mostly on a stream there is.
fn forge(kind: u8, flags: u16, stream: u8, number: u32, bytes: u8) -> Vec<u8> {
    let stream = if stream == 255 { 0x8000_0001 } else { u32::from(stream % 24) };
    let stream = if matches!(kind, 0x01..=0x03 | 0x0C..=0x0E) { stream & 0x10 } else { stream };
    let fixed = match kind {
        0x03 | 0x0E => u64::from(number).to_be_bytes().to_vec(),
        0x02 => [number.to_be_bytes(), number.to_be_bytes()].concat(),
        0x06..=0x08 | 0x0B => number.to_be_bytes().to_vec(),
        _ => Vec::new(),
    };
    let mut body = if flags & M == 0 { Vec::new() } else { vec![0, 0, bytes / 2] };
    body.resize(body.len() + usize::from(bytes), b'x');
    frame(stream, kind, flags & 0x3FF, &fixed, body).encode()
}
