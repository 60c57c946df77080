//! A set of ids for the dependants of a task. Most of these sets are small, and a few are large.
//!
//! Small sets are sorted lists, since a tree's nodes are as large for two ids as for eleven. Large
//! sets are trees, since removing ids one by one from a list of a hundred thousand would move
//! billions of bytes.

use std::collections::BTreeSet;

use crate::id::TaskId;

/// Maximum size of a list. A larger set is a tree, and a tree never becomes a list again.
const MANY: usize = 64;

#[derive(Clone, Debug)]
pub(crate) enum IdSet {
    Few(Vec<TaskId>),
    Many(BTreeSet<TaskId>),
}

impl Default for IdSet {
    fn default() -> Self {
        Self::Few(Vec::new())
    }
}

/// Compares only the members, so a tree that became small equals a list with the same members.
impl PartialEq for IdSet {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl IdSet {
    /// Adds ids without spare capacity, since a graph has one set for each of its tasks.
    pub(crate) fn extend(&mut self, ids: impl ExactSizeIterator<Item = TaskId>) {
        let list = match self {
            Self::Many(tree) => {
                tree.extend(ids);
                return;
            }
            Self::Few(list) => list,
        };
        if list.len() + ids.len() > MANY {
            *self = Self::Many(list.drain(..).chain(ids).collect());
            return;
        }
        list.reserve_exact(ids.len());
        for id in ids {
            if let Err(place) = list.binary_search(&id) {
                list.insert(place, id);
            }
        }
    }

    pub(crate) fn remove(&mut self, id: TaskId) {
        match self {
            Self::Many(tree) => {
                tree.remove(&id);
            }
            Self::Few(list) => {
                if let Ok(place) = list.binary_search(&id) {
                    list.remove(place);
                }
            }
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        match self {
            Self::Few(list) => list.is_empty(),
            Self::Many(tree) => tree.is_empty(),
        }
    }

    /// Iterates in ascending order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = TaskId> {
        let (list, tree) = match self {
            Self::Few(list) => (Some(list), None),
            Self::Many(tree) => (None, Some(tree)),
        };
        let list = list.into_iter().flatten();
        list.chain(tree.into_iter().flatten()).copied()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn set_holds_the_same_ids_as_a_tree(
            changes in proptest::collection::vec((0..4usize, 0..150u128), 0..600),
        ) {
            let (mut set, mut expected) = (IdSet::default(), BTreeSet::new());
            for (come, number) in changes {
                let id = TaskId::new(0, number);
                if come > 0 {
                    let ids = (0..come).map(|next| TaskId::new(0, number + next as u128));
                    set.extend(ids.clone());
                    expected.extend(ids);
                } else {
                    set.remove(id);
                    expected.remove(&id);
                }
                prop_assert!(set.iter().eq(expected.iter().copied()));
                prop_assert_eq!(set.is_empty(), expected.is_empty());
            }
        }
    }

    #[test]
    fn large_sets_are_trees_and_small_sets_are_lists() {
        let check = |count: u128, is_list: bool| {
            let mut set = IdSet::default();
            let ids: Vec<TaskId> = (0..count).map(|number| TaskId::new(0, number)).collect();
            set.extend(ids.into_iter());
            assert_eq!(matches!(set, IdSet::Few(_)), is_list, "{count}");
            assert_ne!(set, IdSet::default());
        };
        check(1, true);
        check(64, true);
        check(65, false);
        check(66, false);
        let mut set = IdSet::default();
        for ten in 0..2 {
            let ids: Vec<TaskId> = (0..10).map(|it| TaskId::new(ten, it)).collect();
            set.extend(ids.into_iter());
        }
        assert!(matches!(set, IdSet::Few(_)), "twenty fit a list");
    }
}
