//! Output: every byte of both streams is kept, whatever the size; the cap; pipes that stay open.

use std::process::Command;

use super::*;
use crate::{digest::Running, supervise::log::Begin};

#[tokio::test]
async fn binary_output_is_kept_byte_for_byte() {
    let mut lab = Lab::new().await;
    let bytes: Vec<u8> = (0..=255u8).cycle().take(100_000).collect();
    let file = lab.dir.path().join("bytes");
    std::fs::write(&file, &bytes).unwrap();
    let script = format!("cat {0}; cat {0} {0} >&2", file.display());
    let (exit, _) = lab.run(lab.script("t.1", &script)).await;
    assert_eq!((exit.stdout_bytes, exit.stderr_bytes), (100_000, 200_000));
    assert!(lab.output("t.1", Channel::Stdout) == bytes);
    assert!(lab.output("t.1", Channel::Stderr) == [&bytes[..], &bytes[..]].concat());
}

/// The output is compared by a running hash, so that neither the expected nor the actual output is
/// ever in memory as a whole.
#[tokio::test]
async fn output_of_300_megabytes_with_a_line_of_100_megabytes_is_kept() {
    const LINE: u64 = 100 << 20;
    const REST: u64 = 200 << 20;
    let mut lab = Lab::new().await;
    let script =
        format!("head -c {LINE} /dev/zero | tr '\\0' x; echo; seq 1 100000000 | head -c {REST}");
    let (exit, _) = lab.run(lab.script("t.1", &script)).await;
    assert_eq!(exit.stdout_bytes, LINE + 1 + REST);

    let mut reader = LogReader::new(&lab.log("t.1"));
    let (mut seen, mut hash) = (0, Running::default());
    while let Some(piece) = reader.next_piece().unwrap() {
        let Piece::Bytes { offset, bytes, .. } = piece else {
            panic!("{piece:?}")
        };
        assert_eq!(offset, seen);
        seen += bytes.len() as u64;
        hash.update(&bytes);
    }
    assert_eq!(seen, LINE + 1 + REST);
    let hashed = Command::new("sh")
        .args(["-c", &format!("{{ {script}; }} | sha256sum")])
        .output()
        .unwrap();
    let expected = String::from_utf8(hashed.stdout).unwrap();
    assert!(expected.starts_with(&hash.hex()), "{expected}");
    let supervisor = procfs::stat(lab.supervisor_pid()).unwrap();
    assert!(
        supervisor.rss_pages * 4096 < 64 << 20,
        "{} pages",
        supervisor.rss_pages
    );
}

#[tokio::test]
async fn the_first_and_the_newest_part_of_output_over_the_cap_are_kept() {
    let mut lab = Lab::new().await;
    let mut start = lab.script("t.1", "seq 1 1000000");
    start.cap_bytes = 1 << 20;
    lab.run(start).await;
    let whole: Vec<u8> = (1..=1_000_000)
        .flat_map(|number| format!("{number}\n").into_bytes())
        .collect();

    let mut reader = LogReader::new(&lab.log("t.1"));
    let mut pieces = Vec::new();
    while let Some(piece) = reader.next_piece().unwrap() {
        pieces.push(piece);
    }
    let gaps: Vec<_> = pieces
        .iter()
        .filter(|piece| matches!(piece, Piece::Gap { .. }))
        .collect();
    let [Piece::Gap { offset, bytes }] = gaps[..] else {
        panic!("{gaps:?}")
    };
    assert_eq!(*offset, 1 << 19, "the first part is whole");
    let kept = whole.len() as u64 - offset - bytes;
    assert!(
        (1 << 19..(1 << 19) + (1 << 17)).contains(&kept),
        "{kept} bytes of the newest part"
    );
    for piece in &pieces {
        if let Piece::Bytes { offset, bytes, .. } = piece {
            let at = usize::try_from(*offset).unwrap();
            assert!(whole[at..at + bytes.len()] == bytes[..], "at {offset}");
        }
    }
    let files = std::fs::read_dir(lab.dir.path().join("logs/00")).unwrap();
    let on_disk: u64 = files
        .map(|file| file.unwrap().metadata().unwrap().len())
        .sum();
    assert!(on_disk < (1 << 20) + (1 << 18), "{on_disk} bytes on disk");

    let mut reader = LogReader::new(&lab.log("t.1"));
    reader.begin(Begin::LastLines(2)).unwrap();
    assert_eq!(read(reader), b"999999\n1000000\n");
}

#[tokio::test]
async fn output_reads_the_same_during_and_after_the_run() {
    let lab = Lab::new().await;
    let script = "for i in 1 2 3; do echo line $i; done; read wait < fifo; echo last";
    lab.fifo("fifo");
    lab.start(lab.script("t.1", script)).await;
    assert_eq!(lab.lines("t.1", 3).await, ["line 1", "line 2", "line 3"]);
    let mut lab = lab.restart_host(2).await;
    assert!(matches!(
        lab.host.found[0].children[0].state,
        FoundState::Running { .. }
    ));
    assert_eq!(lab.text("t.1"), "line 1\nline 2\nline 3\n");
    std::fs::write(lab.dir.path().join("fifo"), "go\n").unwrap();
    let child = ChildId::new(key("t.1"), 0);
    let (exit, ended) = lab.host.exit(&child).await;
    assert_eq!((exit.status, ended), (Status::Code(0), true));
    assert_eq!(lab.text("t.1"), "line 1\nline 2\nline 3\nlast\n");
}

#[tokio::test]
async fn a_child_that_floods_its_output_does_not_delay_another_child() {
    let mut lab = Lab::new().await;
    let mut flood = lab.command("flood.1", &["yes"]);
    flood.cap_bytes = 1 << 20;
    lab.start(flood).await;
    assert_eq!(lab.lines("flood.1", 1).await, ["y"]);
    let (exit, _) = lab.run(lab.script("small.1", "echo hello")).await;
    assert_eq!(exit.status, Status::Code(0));
    assert_eq!(lab.text("small.1"), "hello\n");
    lab.stop(key("flood.1"), StopWhy::Cancelled, Vec::new())
        .await;
    let (exit, _) = lab.host.exit(&ChildId::new(key("flood.1"), 0)).await;
    assert_eq!(
        exit.status,
        Status::Signal(9),
        "an empty ladder kills at once"
    );
}
