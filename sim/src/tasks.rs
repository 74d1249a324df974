//! The list of every task.

use crate::dmc;
use crate::error::SimError;
use crate::task::TaskEntry;

/// Every task, by name.
pub const TASKS: &[TaskEntry] = &[
    TaskEntry { name: "dmc/ball_in_cup-catch", make: dmc::ball_in_cup::catch },
    TaskEntry { name: "dmc/cartpole-balance", make: dmc::cartpole::balance },
    TaskEntry { name: "dmc/cartpole-balance_sparse", make: dmc::cartpole::balance_sparse },
    TaskEntry { name: "dmc/cartpole-swingup", make: dmc::cartpole::swingup },
    TaskEntry { name: "dmc/cartpole-swingup_sparse", make: dmc::cartpole::swingup_sparse },
    TaskEntry { name: "dmc/cartpole-three_poles", make: dmc::cartpole::three_poles },
    TaskEntry { name: "dmc/cartpole-two_poles", make: dmc::cartpole::two_poles },
    TaskEntry { name: "dmc/cheetah-run", make: dmc::cheetah::run },
    TaskEntry { name: "dmc/finger-spin", make: dmc::finger::spin },
    TaskEntry { name: "dmc/finger-turn_easy", make: dmc::finger::turn_easy },
    TaskEntry { name: "dmc/finger-turn_hard", make: dmc::finger::turn_hard },
    TaskEntry { name: "dmc/point_mass-easy", make: dmc::point_mass::easy },
    TaskEntry { name: "dmc/point_mass-hard", make: dmc::point_mass::hard },
    TaskEntry { name: "dmc/reacher-easy", make: dmc::reacher::easy },
    TaskEntry { name: "dmc/reacher-hard", make: dmc::reacher::hard },
    TaskEntry { name: "dmc/walker-run", make: dmc::walker::run },
    TaskEntry { name: "dmc/walker-stand", make: dmc::walker::stand },
    TaskEntry { name: "dmc/walker-walk", make: dmc::walker::walk },
];

/// The entry of this name.
///
/// # Errors
/// [`SimError::UnknownTask`] with the nearest names.
pub(crate) fn find(name: &str) -> Result<&'static TaskEntry, SimError> {
    TASKS.iter().find(|entry| entry.name == name).ok_or_else(|| {
        let mut by_distance: Vec<_> = TASKS.iter().map(|entry| (edit_distance(name, entry.name), entry.name)).collect();
        by_distance.sort_unstable();
        let nearest: Vec<_> = by_distance.iter().take(3).map(|(_, name)| *name).collect();
        SimError::UnknownTask { name: name.to_string(), hint: format!("did you mean {}?", nearest.join(", ")) }
    })
}

/// Letters to insert, delete or replace between two names (Levenshtein), with a common part after the `/` counting as near.
fn edit_distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (line, letter) in left.chars().take(64).enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], line + 1);
        for (column, other) in right.iter().enumerate() {
            let replaced = diagonal + usize::from(letter != *other);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(row[column] + 1).min(diagonal + 1);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_task_names_its_neighbours() {
        let text = find("dmc/reacher_easy").map(|entry| entry.name).unwrap_err().to_string();
        assert!(text.contains("did you mean dmc/reacher-easy"), "{text}");
    }

    #[test]
    fn names_are_sorted_and_unique() {
        assert!(TASKS.windows(2).all(|pair| pair[0].name < pair[1].name));
    }
}
