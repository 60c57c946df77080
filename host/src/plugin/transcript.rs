//! What an executor makes of a child's output, for people.

use super::{
    error::PluginError,
    executor::Executor,
    port::{Attrs, BoxFuture},
};

/// Of a child's output in one call.
pub(crate) const TRANSCRIPT_BYTES: usize = 64 << 10;
const TRANSCRIPT_STATE_BYTES: usize = 8 << 20;
/// What all items of one question may have together: what they are made of is far less.
const ITEMS_BYTES: usize = 16 << 20;
/// Counted for each item beside its text.
const ITEM_BYTES: usize = 64;

/// What came of some parts of a child's output.
#[derive(Debug, Default)]
pub(crate) struct Reading {
    /// For each part the items that were complete with it.
    pub(crate) items: Vec<Vec<TranscriptItem>>,
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

/// Who makes items of output: an executor.
pub(crate) trait Transcribes: Send + Sync {
    /// Makes items of a child's standard output, for people.
    ///
    /// The parts are the next ones in their order, some 256 KiB at a time: all share the time of
    /// one question. The first call is given an empty state, each other one the state of the
    /// [`Reading`] before it. A part without bytes is the end, and gives what was held back. The
    /// answer follows from the two alone, so it may be asked for again from the same place.
    /// Standard error is plain text for every executor. If this fails the output is to be shown as
    /// it is.
    fn transcript<'a>(
        &'a self,
        parts: &'a [Vec<u8>],
        state: Vec<u8>,
    ) -> BoxFuture<'a, Result<Reading, PluginError>>;
}

impl Transcribes for Executor {
    fn transcript<'a>(
        &'a self,
        parts: &'a [Vec<u8>],
        state: Vec<u8>,
    ) -> BoxFuture<'a, Result<Reading, PluginError>> {
        Box::pin(self.ask_for_items(parts, state))
    }
}

impl Executor {
    async fn ask_for_items(
        &self,
        parts: &[Vec<u8>],
        state: Vec<u8>,
    ) -> Result<Reading, PluginError> {
        let asked = self.ask(async move |plugin, store| {
            let executor = plugin.claudine_plugin_executor();
            let (mut items, mut state) = (Vec::with_capacity(parts.len()), state);
            let mut bytes = 0;
            for part in parts {
                let mut of_part = Vec::new();
                let end = part.is_empty().then_some(&part[..]);
                for piece in part.chunks(TRANSCRIPT_BYTES).chain(end) {
                    let asked = executor.call_transcript(&mut *store, piece, &state);
                    let answer = asked.await?;
                    state = answer.state;
                    of_part.extend(answer.items.into_iter().map(|item| TranscriptItem {
                        kind: ItemKind::of_word(&item.kind),
                        text: item.text,
                        more: item.more,
                    }));
                    // What is wrong with an answer is no fault of wasmtime's: it is told as a
                    // value.
                    if let Some(message) = too_much(&state) {
                        return Ok(Err(message));
                    }
                }
                bytes += of_part.iter().map(size).sum::<usize>();
                if bytes > ITEMS_BYTES {
                    let message = "the items of its transcript have more than 16 MiB";
                    return Ok(Err(message.to_owned()));
                }
                items.push(of_part);
            }
            Ok(Ok(Reading { items, state }))
        });
        asked
            .await?
            .map_err(|message| PluginError::Answer { message })
    }
}

fn too_much(state: &[u8]) -> Option<String> {
    let length = state.len();
    (length > TRANSCRIPT_STATE_BYTES)
        .then(|| format!("the state of its transcript has {length} bytes, more than 8 MiB"))
}

fn size(item: &TranscriptItem) -> usize {
    let more = item.more.iter();
    let more: usize = more.map(|(name, value)| name.len() + value.len()).sum();
    ITEM_BYTES + item.text.len() + more
}
