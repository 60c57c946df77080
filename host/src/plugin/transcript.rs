//! The transcript of a child's output, which an executor makes for people.

use super::{
    error::PluginError,
    executor::Executor,
    port::{Attrs, BoxFuture},
};

/// The most bytes of output in one call of the guest. A longer part is passed to the guest in
/// several calls.
pub(crate) const TRANSCRIPT_BYTES: usize = 64 << 10;
const TRANSCRIPT_STATE_BYTES: usize = 8 << 20;
/// The most bytes of all items of one question; an ordinary transcript is far smaller.
const ITEMS_BYTES: usize = 16 << 20;
/// The bytes counted for each item in addition to its text.
const ITEM_BYTES: usize = 64;

/// The items made of some parts of a child's output.
#[derive(Debug, Default)]
pub(crate) struct Reading {
    /// The items that each part completed, in the order of the parts.
    pub(crate) items: Vec<Vec<TranscriptItem>>,
    /// The state to pass to the next call.
    pub(crate) state: Vec<u8>,
}

/// An item of a child's output, for people. The text is exactly the text of the guest. It is made
/// harmless and shortened only when it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TranscriptItem {
    pub(crate) kind: ItemKind,
    pub(crate) text: String,
    /// Further attributes: `tool` (the tool's name), `failed` (`true`), `cost-usd` (a decimal
    /// number).
    pub(crate) more: Attrs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ItemKind {
    /// Text of an agent or a command.
    Text,
    /// A call of a tool.
    Tool,
    /// The result of a tool.
    Result,
    /// A tool that was refused.
    Denied,
    /// The money spent since the last item of this kind.
    Cost,
    /// An error.
    Error,
}

impl ItemKind {
    /// Parses a kind; a kind that the contract does not know counts as text.
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

/// A maker of transcripts; executors implement it.
pub(crate) trait Transcribes: Send + Sync {
    /// Makes items of a child's standard output, for people.
    ///
    /// The caller passes the next parts in order, about 256 KiB in total, because all parts share
    /// the time limit of one question. The first call of this method gets an empty state, each
    /// later call the state in the last [`Reading`]. An empty part marks the end of the output; the
    /// guest then returns the items that it has held back. The answer depends only on the parts and
    /// the state, so the same call may be repeated. Standard error is plain text for every
    /// executor. If the call fails, the output is to be shown as it is.
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
                    // A bad answer is not an error of wasmtime, so it is returned as a value.
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
