//! The least that a delivery can cost: the same bytes as `rsock` sends, in one `send` a connection, by a
//! server that keeps nothing and checks nothing.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use super::wire::{self, Asked};
use crate::Result;

/// Bytes read at once: publishes and subscriptions are small.
const READ: usize = 64 << 10;
const EVENTS: usize = 64;
const LISTENER: u64 = u64::MAX;

struct Line {
    socket: TcpStream,
    unread: Vec<u8>,
    streams: Vec<u32>,
}

pub(super) fn serve(listening: impl FnOnce(SocketAddr) -> Result<()>) -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    listening(listener.local_addr()?)?;
    let epoll = Epoll::new(EpollCreateFlags::empty())?;
    epoll.add(&listener, EpollEvent::new(EpollFlags::EPOLLIN, LISTENER))?;
    let mut lines: Vec<Line> = Vec::new();
    let mut events = vec![EpollEvent::empty(); EVENTS];
    let mut buffer = vec![0; READ];
    let (mut messages, mut out, mut offset) = (Vec::new(), Vec::new(), 0);
    loop {
        let count = epoll.wait(&mut events, EpollTimeout::NONE)?;
        for event in &events[..count] {
            if event.data() == LISTENER {
                let (socket, _) = listener.accept()?;
                socket.set_nodelay(true)?;
                let number = lines.len() as u64;
                epoll.add(&socket, EpollEvent::new(EpollFlags::EPOLLIN, number))?;
                lines.push(Line { socket, unread: Vec::new(), streams: Vec::new() });
                continue;
            }
            let line = &mut lines[event.data() as usize];
            let read = line.socket.read(&mut buffer)?;
            if read == 0 {
                return Ok(());
            }
            line.unread.extend_from_slice(&buffer[..read]);
            let taken = wire::asked(&line.unread, |asked| match asked {
                Asked::Items { stream } => {
                    line.streams.push(stream);
                    wire::put_item(&mut out, stream, 0, b"");
                }
                Asked::Publish { stream, data } => {
                    offset += 1;
                    wire::put_item(&mut messages, 0, offset, data);
                    wire::put_answer(&mut out, stream, offset);
                }
            });
            line.unread.drain(..taken);
            // It is read by who waits for it: a blocking socket will do.
            line.socket.write_all(&out)?;
            out.clear();
        }
        if messages.is_empty() {
            continue;
        }
        for line in lines.iter_mut().filter(|line| !line.streams.is_empty()) {
            out.clear();
            for stream in &line.streams {
                let begin = out.len();
                out.extend_from_slice(&messages);
                wire::set_streams(&mut out[begin..], *stream);
            }
            line.socket.write_all(&out)?;
        }
        out.clear();
        messages.clear();
    }
}
