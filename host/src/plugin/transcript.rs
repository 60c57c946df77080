//! What an executor makes of a child's output, for people.
//!
//! Nothing in the host shows it yet, so this is in the tests alone: they ask as the contract says,
//! and hold plugins to it.

use super::{error::PluginError, executor::Executor, port::Attrs};

/// Of a child's output in one call.
const TRANSCRIPT_BYTES: usize = 64 << 10;
const TRANSCRIPT_STATE_BYTES: usize = 8 << 20;

/// What came of some bytes of a child's output.
#[derive(Debug, Default)]
pub(crate) struct Reading {
    pub(crate) items: Vec<TranscriptItem>,
    /// What the next call has to be given.
    pub(crate) state: Vec<u8>,
}

/// A part of a child's output, for people. The text is as the guest made it: it is made
/// harmless and short where it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TranscriptItem {
    pub(crate) kind: ItemKind,
    pub(crate) text: String,
    /// `tool` (its name), `failed` (`true`), `cost-usd` (a decimal number).
    pub(crate) more: Attrs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ItemKind {
    /// What an agent or a command says.
    Text,
    /// A tool is called.
    Tool,
    /// What came of a tool.
    Result,
    /// A tool was refused.
    Denied,
    /// What was spent since the last item of this kind.
    Cost,
    /// Something failed.
    Error,
}

impl ItemKind {
    /// A kind that the contract does not know is text.
    fn of_word(word: &str) -> Self {
        match word {
            "tool" => Self::Tool,
            "result" => Self::Result,
            "denied" => Self::Denied,
            "cost" => Self::Cost,
            "error" => Self::Error,
            _ => Self::Text,
        }
    }
}

impl Executor {
    /// Makes items of a child's standard output, for people.
    ///
    /// `bytes` are the next ones, some 256 KiB at a time: all of a call share the time of one
    /// question. The first call is given an empty state, each other one the state of the
    /// [`Reading`] before it, and the last one no bytes, which gives what was held back. The answer
    /// follows from the two alone, so it may be asked for again from the same place. Standard error
    /// is plain text for every executor. Where this fails the output is to be shown as it is.
    pub(crate) async fn transcript(
        &self,
        bytes: &[u8],
        state: &[u8],
    ) -> Result<Reading, PluginError> {
        let reading = self
            .ask(async |plugin, store| {
                let executor = plugin.claudine_plugin_executor();
                let mut reading = Reading {
                    items: Vec::new(),
                    state: state.to_vec(),
                };
                let end = bytes.is_empty().then_some(bytes);
                for piece in bytes.chunks(TRANSCRIPT_BYTES).chain(end) {
                    let asked = executor.call_transcript(&mut *store, piece, &reading.state);
                    let answer = asked.await?;
                    let items = answer.items.into_iter().map(|item| TranscriptItem {
                        kind: ItemKind::of_word(&item.kind),
                        text: item.text,
                        more: item.more,
                    });
                    reading.items.extend(items);
                    reading.state = answer.state;
                }
                Ok(reading)
            })
            .await?;
        if reading.state.len() > TRANSCRIPT_STATE_BYTES {
            let message = format!(
                "the state of its transcript has {} bytes, more than 8 MiB",
                reading.state.len()
            );
            return Err(PluginError::Answer { message });
        }
        Ok(reading)
    }
}
