//! Just enough HTTP/1.1 to query the host over its Unix socket without the overhead of a library in
//! the measurement: one connection, which is kept open, with one request at a time.

use std::{
    io::{BufRead, BufReader, Read, Write},
    os::unix::net::UnixStream,
    path::Path,
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

pub(crate) struct Connection {
    stream: BufReader<UnixStream>,
}

impl Connection {
    pub(crate) fn open(socket: &Path) -> Result<Self> {
        let stream = UnixStream::connect(socket)
            .with_context(|| format!("cannot connect to {}", socket.display()))?;
        Ok(Self {
            stream: BufReader::new(stream),
        })
    }

    /// Sends one request; returns the status and the JSON body.
    pub(crate) fn ask(
        &mut self,
        method: &str,
        path: &str,
        body: Option<&str>,
    ) -> Result<(u16, Value)> {
        let (status, bytes) = self.ask_bytes(method, path, body)?;
        let body = serde_json::from_slice(&bytes).with_context(|| {
            format!(
                "{method} {path}: not JSON: {}",
                String::from_utf8_lossy(&bytes)
            )
        })?;
        Ok((status, body))
    }

    fn ask_bytes(
        &mut self,
        method: &str,
        path: &str,
        body: Option<&str>,
    ) -> Result<(u16, Vec<u8>)> {
        let body = body.unwrap_or_default();
        let mut request = format!(
            "{method} {path} HTTP/1.1\r\nhost: claudine\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        request.push_str(body);
        self.stream.get_mut().write_all(request.as_bytes())?;
        self.answer().with_context(|| format!("{method} {path}"))
    }

    fn answer(&mut self) -> Result<(u16, Vec<u8>)> {
        let line = self.line()?;
        let status = line
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok())
            .with_context(|| format!("not a status line: {line:?}"))?;
        let mut length = None;
        let mut chunked = false;
        loop {
            let line = self.line()?.to_ascii_lowercase();
            match line.split_once(':') {
                Some(("content-length", value)) => length = Some(value.trim().parse::<usize>()?),
                Some(("transfer-encoding", value)) => chunked = value.trim() == "chunked",
                Some(_) => {}
                None if line.is_empty() => break,
                None => bail!("not a header: {line:?}"),
            }
        }
        let mut body = Vec::new();
        if chunked {
            while self.chunk(&mut body)? {}
        } else {
            body.resize(length.unwrap_or(0), 0);
            self.stream.read_exact(&mut body)?;
        }
        Ok((status, body))
    }

    /// Reads one chunk; returns `false` for the last one.
    fn chunk(&mut self, body: &mut Vec<u8>) -> Result<bool> {
        let line = self.line()?;
        let length = usize::from_str_radix(line.split(';').next().unwrap_or_default(), 16)?;
        let start = body.len();
        body.resize(start + length, 0);
        self.stream.read_exact(&mut body[start..])?;
        ensure!(self.line()?.is_empty(), "no line end after a chunk");
        Ok(length > 0)
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        ensure!(line.ends_with('\n'), "the connection was closed");
        Ok(line.trim_end_matches(['\r', '\n']).to_owned())
    }
}
