//! The baselines with which `cargo xtask bench` compares Claudine: the cost of the same work
//! without Claudine. The program also makes the measurements whose own cost must be small. It is
//! separate from `xtask` so that it is compiled with optimisation and forks from a small process.
//!
//! Each command prints one number, in microseconds, except `echo-server`, which `echo` starts.

use std::{
    collections::VecDeque,
    env,
    fs::File,
    io::{BufRead, BufReader, Read, Write},
    os::unix::{
        fs::FileExt,
        net::{UnixListener, UnixStream},
    },
    path::Path,
    process::{Child, Command, Stdio},
    time::Instant,
};

use anyhow::{Context, Result, bail, ensure};

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let microseconds = match arguments.as_slice() {
        ["spawn", count, in_flight, command @ ..] => {
            spawn(count.parse()?, in_flight.parse()?, command)?
        }
        ["latency", count, command @ ..] => latency(count.parse()?, command)?,
        ["echo", count, dir] => echo(count.parse()?, Path::new(dir))?,
        ["echo-server", dir] => return echo_server(Path::new(dir)),
        ["mcp", count, in_flight, tool, arguments, command @ ..] => {
            mcp(count.parse()?, in_flight.parse()?, tool, arguments, command)?
        }
        other => bail!("unknown command {other:?}"),
    };
    println!("{microseconds:.2}");
    Ok(())
}

fn quiet(command: &[&str]) -> Result<Command> {
    let (program, arguments) = command.split_first().context("no command")?;
    let mut command = Command::new(program);
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    Ok(command)
}

/// Time for each of `count` processes, with `in_flight` of them at once.
fn spawn(count: u32, in_flight: usize, command: &[&str]) -> Result<f64> {
    let mut command = quiet(command)?;
    let mut running: VecDeque<Child> = VecDeque::new();
    let begin = Instant::now();
    for _ in 0..count {
        if running.len() == in_flight {
            any_end(&mut running)?;
        }
        running.push_back(command.spawn()?);
    }
    while !running.is_empty() {
        any_end(&mut running)?;
    }
    Ok(begin.elapsed().as_secs_f64() * 1e6 / f64::from(count))
}

/// Waits until the first of the running children ends.
fn any_end(running: &mut VecDeque<Child>) -> Result<()> {
    let (pid, status) =
        rustix::process::wait(rustix::process::WaitOptions::empty())?.context("a child")?;
    ensure!(status.exit_status() == Some(0), "a command failed");
    running.retain(|child| i64::from(child.id()) != i64::from(pid.as_raw_nonzero().get()));
    Ok(())
}

/// Median time of a command from its start to its end.
fn latency(count: usize, command: &[&str]) -> Result<f64> {
    let mut command = quiet(command)?;
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        let begin = Instant::now();
        ensure!(command.status()?.success(), "a command failed");
        times.push(begin.elapsed().as_secs_f64() * 1e6);
    }
    Ok(median(times))
}

/// Median time of a request to another process, which makes 4 KiB durable before it answers.
fn echo(count: usize, dir: &Path) -> Result<f64> {
    let mut server = Command::new(env::current_exe()?)
        .arg("echo-server")
        .arg(dir)
        .stdout(Stdio::piped())
        .spawn()?;
    // The server reports when it listens.
    let mut ready = [0];
    server
        .stdout
        .take()
        .context("a pipe")?
        .read_exact(&mut ready)?;
    let mut stream = UnixStream::connect(dir.join("echo.sock"))?;
    let mut times = Vec::with_capacity(count);
    let mut buffer = [0; 512];
    for _ in 0..count {
        let begin = Instant::now();
        stream.write_all(&buffer)?;
        stream.read_exact(&mut buffer)?;
        times.push(begin.elapsed().as_secs_f64() * 1e6);
    }
    drop(stream);
    ensure!(server.wait()?.success(), "the echo server failed");
    Ok(median(times))
}

fn echo_server(dir: &Path) -> Result<()> {
    let file = File::create(dir.join("echo.dat"))?;
    let listener = UnixListener::bind(dir.join("echo.sock"))?;
    std::io::stdout().write_all(b"!")?;
    std::io::stdout().flush()?;
    let (mut stream, _) = listener.accept()?;
    let mut buffer = [0; 512];
    let mut page = 0;
    while stream.read_exact(&mut buffer).is_ok() {
        file.write_all_at(&[1; 4096], page * 4096)?;
        file.sync_data()?;
        page += 1;
        stream.write_all(&buffer)?;
    }
    std::fs::remove_file(dir.join("echo.sock"))?;
    std::fs::remove_file(dir.join("echo.dat"))?;
    Ok(())
}

/// Time for each tool call over standard input and output, with `in_flight` of them at once.
fn mcp(
    count: usize,
    in_flight: usize,
    tool: &str,
    arguments: &str,
    command: &[&str],
) -> Result<f64> {
    let (program, words) = command.split_first().context("no command")?;
    let mut server = Command::new(program)
        .args(words)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut input = server.stdin.take().context("a pipe")?;
    let mut output = BufReader::new(server.stdout.take().context("a pipe")?);
    let hello = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"bench","version":"0"}}}"#;
    input.write_all(format!("{hello}\n").as_bytes())?;
    answer(&mut output)?;
    input.write_all(b"{\"jsonrpc\":\"2.0\",\"method\":\"notifications/initialized\"}\n")?;
    let call = |id: usize| {
        format!(
            "{{\"jsonrpc\":\"2.0\",\"id\":{id},\"method\":\"tools/call\",\"params\":{{\"name\":\"{tool}\",\"arguments\":{arguments}}}}}\n"
        )
    };
    // These calls are a warm-up.
    for id in 1..=50 {
        input.write_all(call(id).as_bytes())?;
        answer(&mut output)?;
    }
    let begin = Instant::now();
    let mut sent = 0;
    for answered in 0..count {
        while sent < count && sent - answered < in_flight {
            sent += 1;
            input.write_all(call(100 + sent).as_bytes())?;
        }
        answer(&mut output)?;
    }
    let time = begin.elapsed().as_secs_f64() * 1e6 / f64::from(u32::try_from(count)?);
    drop(input);
    ensure!(server.wait()?.success(), "the server failed");
    Ok(time)
}

/// Reads until an answer comes; skips notifications.
fn answer(output: &mut impl BufRead) -> Result<()> {
    let mut line = String::new();
    loop {
        line.clear();
        ensure!(
            output.read_line(&mut line)? > 0,
            "the server closed its output"
        );
        ensure!(
            !line.contains("\"error\":{") && !line.contains("\"isError\":true"),
            "the call failed: {line}"
        );
        if line.contains("\"result\":") {
            return Ok(());
        }
    }
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or(f64::NAN)
}
