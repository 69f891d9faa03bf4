//! What a fan-out costs at the least: a server that does one write per delivery and nothing else.

use std::{
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    process::Command,
    task::JoinSet,
    time::sleep_until,
};

use super::figures::Usage;

/// The shape of a fan-out.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Sockets.
    pub connections: usize,
    /// Messages per second, each to every socket.
    pub per_second: u32,
    /// Length, seconds.
    pub seconds: u32,
    /// Bytes of a delivery, header included.
    pub frame_bytes: usize,
}

/// The server: prints its port, waits for the sockets, prints `begin`, delivers, prints `end`, and stays until
/// its standard input closes.
pub async fn serve(shape: Shape) -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?.port());
    let mut sockets = Vec::with_capacity(shape.connections);
    while sockets.len() < shape.connections {
        let (socket, _) = listener.accept().await?;
        socket.set_nodelay(true)?;
        sockets.push(socket);
    }
    let frame = vec![b'x'; shape.frame_bytes];
    println!("begin");
    let start = Instant::now();
    for n in 0..shape.per_second * shape.seconds {
        sleep_until((start + Duration::from_secs_f64(f64::from(n) / f64::from(shape.per_second))).into()).await;
        for socket in &mut sockets {
            socket.write_all(&frame).await?;
        }
    }
    println!("end");
    tokio::task::spawn_blocking(|| std::io::Read::read_to_end(&mut std::io::stdin(), &mut Vec::new())).await??;
    Ok(())
}

/// Runs the server as a process of its own and reads from it; gives its processor time and the bytes delivered.
pub async fn measure(shape: Shape) -> Result<(Duration, u64)> {
    let mut child = Command::new(std::env::current_exe()?)
        .args(["bare", &shape.connections.to_string(), &shape.per_second.to_string()])
        .args([shape.seconds.to_string(), shape.frame_bytes.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let pid = child.id().context("it runs")?;
    let mut said = BufReader::new(child.stdout.take().context("its output")?).lines();
    let port: u16 = said.next_line().await?.context("a port")?.parse()?;
    let mut readers = JoinSet::new();
    for _ in 0..shape.connections {
        let mut socket = TcpStream::connect(("127.0.0.1", port)).await?;
        readers.spawn(async move {
            let (mut chunk, mut n) = (vec![0; 4_096], 0);
            while let Ok(read @ 1..) = socket.read(&mut chunk).await {
                n += read as u64;
            }
            n
        });
    }
    said.next_line().await?;
    let before = Usage::of(pid);
    said.next_line().await?;
    let after = Usage::of(pid);
    drop(child.stdin.take());
    child.wait().await?;
    Ok((after.cpu - before.cpu, readers.join_all().await.into_iter().sum()))
}
