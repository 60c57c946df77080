//! The transcript of a child's output, which an executor makes for people.

use super::{
    error::PluginError,
    executor::Executor,
    port::{Attrs, BoxFuture},
};

/// The most bytes of output in one call of the guest. A longer part is passed to the guest in
/// several calls.
const TRANSCRIPT_BYTES: usize = 64 << 10;
/// The longest line that a guest is given. A guest keeps the beginning of a line in its state,
/// which is copied into the guest and out of it with each piece of the line. So the work for a line
/// grows with the square of its length, and only this limit keeps the work for each byte small.
pub(crate) const TRANSCRIPT_LINE_BYTES: usize = 1 << 20;
/// The most bytes of output in one question, because all calls of a question share its time limit.
const QUESTION_BYTES: usize = 256 << 10;
const TRANSCRIPT_STATE_BYTES: usize = 8 << 20;
/// The most bytes of all items of one reading; an ordinary transcript is far smaller.
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
    /// The caller passes the next parts in order, and no line longer than
    /// [`TRANSCRIPT_LINE_BYTES`]. The first call of this method gets an empty state, each later
    /// call the state in the last [`Reading`]. An empty part marks the end of the output; the guest
    /// then returns the items that it has held back. The answer depends only on the parts and the
    /// state, so the same call may be repeated. Standard error is plain text for every executor. If
    /// the call fails, the output is to be shown as it is.
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
        let mut reading = Reading {
            items: parts.iter().map(|_| Vec::new()).collect(),
            state,
        };
        let mut bytes = 0;
        for pieces in questions(parts) {
            let state = std::mem::take(&mut reading.state);
            let asked = self.ask(async move |plugin, store| {
                let executor = plugin.claudine_plugin_executor();
                let (mut made, mut state, mut bytes) = (Vec::new(), state, bytes);
                for (part, piece) in pieces {
                    let asked = executor.call_transcript(&mut *store, piece, &state);
                    let answer = asked.await?;
                    state = answer.state;
                    for item in answer.items {
                        let item = TranscriptItem {
                            kind: ItemKind::of_word(&item.kind),
                            text: item.text,
                            more: item.more,
                        };
                        bytes += size(&item);
                        made.push((part, item));
                    }
                    // A bad answer is not an error of wasmtime, so it is returned as a value.
                    if let Some(message) = too_much(&state, bytes) {
                        return Ok(Err(message));
                    }
                }
                Ok(Ok((made, state, bytes)))
            });
            let answered = asked.await?;
            let (made, state, made_bytes) =
                answered.map_err(|message| PluginError::Answer { message })?;
            (reading.state, bytes) = (state, made_bytes);
            for (part, item) in made {
                reading.items[part].push(item);
            }
        }
        Ok(reading)
    }
}

/// Divides parts into pieces for one call each, with the numbers of their parts, and the pieces
/// into questions.
fn questions(parts: &[Vec<u8>]) -> Vec<Vec<(usize, &[u8])>> {
    let mut questions = Vec::new();
    let (mut question, mut bytes) = (Vec::new(), 0);
    for (number, part) in parts.iter().enumerate() {
        let end = part.is_empty().then_some(&part[..]);
        for piece in part.chunks(TRANSCRIPT_BYTES).chain(end) {
            bytes += piece.len();
            if bytes > QUESTION_BYTES {
                questions.push(std::mem::take(&mut question));
                bytes = piece.len();
            }
            question.push((number, piece));
        }
    }
    if !question.is_empty() {
        questions.push(question);
    }
    questions
}

fn too_much(state: &[u8], items_bytes: usize) -> Option<String> {
    if items_bytes > ITEMS_BYTES {
        return Some("the items of its transcript have more than 16 MiB".to_owned());
    }
    let length = state.len();
    (length > TRANSCRIPT_STATE_BYTES)
        .then(|| format!("the state of its transcript has {length} bytes, more than 8 MiB"))
}

fn size(item: &TranscriptItem) -> usize {
    let more = item.more.iter();
    let more: usize = more.map(|(name, value)| name.len() + value.len()).sum();
    ITEM_BYTES + item.text.len() + more
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_part_is_divided_into_questions_of_bounded_size() {
        let parts = [
            b"short".to_vec(),
            vec![b'x'; TRANSCRIPT_LINE_BYTES],
            Vec::new(),
            b"end".to_vec(),
        ];
        let asked = questions(&parts);
        for pieces in &asked {
            let bytes: usize = pieces.iter().map(|(_, piece)| piece.len()).sum();
            assert!((1..=QUESTION_BYTES).contains(&bytes), "{bytes}");
            assert!(pieces.iter().all(|(_, one)| one.len() <= TRANSCRIPT_BYTES));
        }
        let pieces = asked.concat();
        for (number, part) in parts.iter().enumerate() {
            let own = pieces.iter().filter(|(of, _)| *of == number);
            let own: Vec<&[u8]> = own.map(|(_, piece)| *piece).collect();
            assert!(!own.is_empty(), "part {number}");
            assert!(own.concat() == *part, "part {number}");
        }
        assert!(pieces.is_sorted_by_key(|(of, _)| *of));
        assert_eq!(questions(&[]).len(), 0);
    }
}
