//! The server of both files: whole MP4s, padded to their size, as fast as a loopback takes them.

use std::{
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    sync::Arc,
    thread,
};

use super::Result;

/// A video of the provider's double; what follows it is a box of padding.
const VIDEO: &[u8] = include_bytes!("../../src/sandbox/videos/16x9-10-silent.mp4");
const BLOCK_BYTES: usize = 1 << 20;

/// Serves `/large.mp4` and `/small.mp4` until it is killed; says its port first.
#[expect(clippy::print_stdout, reason = "the parent reads the port")]
pub fn run(large: u64, small: u64) -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("{}", listener.local_addr()?.port());
    let padding: Arc<[u8]> = vec![0x5a; BLOCK_BYTES].into();
    for connection in listener.incoming() {
        let (connection, padding) = (connection?, Arc::clone(&padding));
        // A client that goes away is no error of the server's.
        thread::spawn(move || serve(connection, large, small, &padding).ok());
    }
    Ok(())
}

fn serve(mut connection: TcpStream, large: u64, small: u64, padding: &[u8]) -> std::io::Result<()> {
    connection.set_nodelay(true)?;
    let mut requests = BufReader::new(connection.try_clone()?);
    loop {
        let mut first = String::new();
        if requests.read_line(&mut first)? == 0 {
            return Ok(());
        }
        let mut line = String::new();
        while requests.read_line(&mut line)? > 2 {
            line.clear();
        }
        let bytes = if first.starts_with("GET /large") { large } else { small };
        let free = u32::try_from(bytes - VIDEO.len() as u64).unwrap_or(u32::MAX);
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: video/mp4\r\nETag: \"{bytes}\"\r\nContent-Length: {bytes}\r\n\r\n"
        );
        connection.write_all(&[head.as_bytes(), VIDEO, &free.to_be_bytes(), b"free"].concat())?;
        let mut left = free as usize - 8;
        while left > 0 {
            let now = left.min(padding.len());
            connection.write_all(&padding[..now])?;
            left -= now;
        }
    }
}
