//! Formats of amounts in answers: budgets and limits of concurrent tasks.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::units::dollars;

#[derive(Clone, Copy, Debug, Serialize, Deserialize, JsonSchema)]
#[allow(
    clippy::struct_field_names,
    reason = "an amount has its currency in its name"
)]
pub(crate) struct BudgetView {
    pub(crate) spent_usd: f64,
    pub(crate) daily_usd: f64,
    #[serde(default)]
    pub(crate) left_usd: f64,
}

impl BudgetView {
    pub(in crate::app) fn of(spent_micro_usd: u64, budget_micro_usd: u64) -> Self {
        Self {
            spent_usd: dollars(spent_micro_usd),
            daily_usd: dollars(budget_micro_usd),
            left_usd: dollars(budget_micro_usd.saturating_sub(spent_micro_usd)),
        }
    }
}

/// Writes a number of slots as a JSON number, and `auto` as a string. Older hosts write both as
/// strings.
pub(crate) mod slots_json {
    use std::fmt;

    use schemars::JsonSchema;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Deserialize, Serialize, JsonSchema)]
    #[serde(untagged)]
    pub(crate) enum Slots {
        Number(u32),
        Word(String),
    }

    pub(crate) fn serialize<S: Serializer>(slots: &str, serializer: S) -> Result<S::Ok, S::Error> {
        let slots = slots
            .parse()
            .map_or_else(|_| Slots::Word(slots.to_owned()), Slots::Number);
        slots.serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<String, D::Error> {
        Ok(Slots::deserialize(deserializer)?.to_string())
    }

    impl fmt::Display for Slots {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            match self {
                Self::Number(slots) => slots.fmt(f),
                Self::Word(word) => f.write_str(word),
            }
        }
    }

    /// Writes an optional number of slots in the same way.
    pub(crate) mod optional {
        use serde::{Deserialize, Deserializer, Serializer};

        use super::Slots;

        #[allow(clippy::ref_option, reason = "serde passes a reference")]
        pub(crate) fn serialize<S: Serializer>(
            slots: &Option<String>,
            serializer: S,
        ) -> Result<S::Ok, S::Error> {
            match slots {
                Some(slots) => super::serialize(slots, serializer),
                None => serializer.serialize_none(),
            }
        }

        pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
            deserializer: D,
        ) -> Result<Option<String>, D::Error> {
            let slots = Option::<Slots>::deserialize(deserializer)?;
            Ok(slots.map(|slots| slots.to_string()))
        }
    }

    #[cfg(test)]
    mod tests {
        #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
        use super::*;

        #[derive(Deserialize, Serialize)]
        struct Holder(#[serde(with = "super")] String);

        #[test]
        fn a_number_of_slots_is_a_json_number() {
            let check = |written: &str, read: &str, json: &str| {
                let holder: Holder = serde_json::from_str(written).unwrap();
                assert_eq!(holder.0, read);
                assert_eq!(serde_json::to_string(&holder).unwrap(), json);
            };
            check("6", "6", "6");
            check("\"6\"", "6", "6");
            check("\"auto\"", "auto", "\"auto\"");
        }
    }
}
