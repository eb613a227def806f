//! A generated directory of any size: its content is computed from numbers, without reading it.
//!
//! There is one role for every ten groups; a group has three roles, and a user is in three groups. In addition, one
//! group contains a tenth of all users, and one user is in a tenth of all groups.

mod fill;
mod schema;

use std::path::{Path, PathBuf};

use uuid::{Builder, Uuid};

pub(crate) use fill::{add_users, keys, members, sql_id};

/// Number of rules of a role: ten ALLOW rules and one DENY rule.
pub(crate) const RULES: u64 = 11;
const ACTIONS: [&str; RULES as usize] = [
    "view", "list", "edit", "create", "delete", "export", "import", "approve", "refund", "archive",
    "purge",
];
/// Creation time of the directory, in Unix milliseconds: the first day of 2025.
pub(crate) const EPOCH_MILLIS: u64 = 1_735_689_600_000;

/// Size of a directory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    pub(crate) groups: u64,
    pub(crate) users: u64,
    pub(crate) changes: u64,
}

/// With 30,000 memberships.
pub(crate) const SMALL: Size = Size {
    groups: 1_000,
    users: 10_000,
    changes: 100_000,
};
/// With 3,000,000 memberships.
pub(crate) const LARGE: Size = Size {
    groups: 100_000,
    users: 1_000_000,
    changes: 10_000_000,
};

/// A generated directory in a SQLite file.
#[derive(Clone, Debug)]
pub(crate) struct Directory {
    pub(crate) path: PathBuf,
    pub(crate) size: Size,
}

impl Directory {
    /// Creates a directory, unless it exists from an earlier run.
    pub(crate) fn make(path: &Path, size: Size) -> Self {
        let directory = Self {
            path: path.to_owned(),
            size,
        };
        let done = path.with_extension("complete");
        if done.exists() {
            crate::server::migrate(path);
        } else {
            fill::fill(&directory);
            std::fs::write(done, format!("{size:?}\n")).expect("written");
        }
        directory
    }

    pub(crate) fn roles(&self) -> u64 {
        self.size.groups / 10
    }

    /// The id of a group, as text.
    pub(crate) fn group(&self, number: u64) -> String {
        id(Kind::Group, number).to_string()
    }

    /// The id of a user, as text.
    pub(crate) fn user(&self, number: u64) -> String {
        id(Kind::User, number).to_string()
    }

    /// The id of a role, as text.
    pub(crate) fn role(&self, number: u64) -> String {
        id(Kind::Role, number).to_string()
    }

    /// The roles of a group.
    pub(crate) fn roles_of_group(&self, group: u64) -> [u64; 3] {
        let roles = self.roles();
        [0, 1, 2].map(|place| (group + place * (roles / 3)) % roles)
    }

    /// The three regular groups of a user: without [`LARGEST_GROUP`] and the many groups of the user who is in a
    /// tenth of all groups.
    pub(crate) fn groups_of_user(&self, user: u64) -> [u64; 3] {
        let groups = self.size.groups;
        [0, 1, 2].map(|place| (user + place * (groups / 3)) % groups)
    }

    /// An action that a user is allowed to perform, one of ten by number.
    pub(crate) fn allowed(&self, user: u64, number: u64) -> [String; 3] {
        let role = self.roles_of_group(self.groups_of_user(user)[0])[0];
        rule(role, number % (RULES - 1))
    }

    /// A group and a user who isn't in it, a different pair for each number.
    pub(crate) fn disjoint_pair(&self, number: u64) -> (u64, u64) {
        let Size { groups, users, .. } = self.size;
        let group = number % groups;
        let turn = number / groups;
        // The groups of a user are at least a third of all groups apart.
        let step = 1 + turn / (users / groups) % (groups / 3 - 1);
        let user = (group + step + turn % (users / groups) * groups) % users;
        (group, user)
    }

    /// `some` numbers below `of`, evenly distributed: the same number of hot resources in a small directory and in
    /// a large one. Skips the first few, which are special.
    pub(crate) fn spread_indices(of: u64, some: u64) -> impl Iterator<Item = u64> {
        (0..some).map(move |place| (place * of / some + 5) % of)
    }
}

/// The group that contains a tenth of all users.
pub(crate) const LARGEST_GROUP: u64 = 0;
/// The user who is in a tenth of all groups.
pub(crate) const ROLE_IN_EVERY_GROUP: u64 = 0;

/// Kinds of resources.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Role = 1,
    Group,
    User,
}

/// A UUIDv7, as the server would have generated it at the creation time.
fn id(kind: Kind, number: u64) -> Uuid {
    // SplitMix64, from Steele, Lea and Flood: Fast Splittable Pseudorandom Number Generators.
    let mix = |seed: u64| {
        let z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    let random = mix(number << 2 | kind as u64);
    let mut bytes = [0; 10];
    bytes[..8].copy_from_slice(&random.to_be_bytes());
    bytes[8..].copy_from_slice(&mix(random).to_be_bytes()[..2]);
    Builder::from_unix_timestamp_millis(EPOCH_MILLIS + number, &bytes).into_uuid()
}

/// Creation time of the resource with this number, in Unix microseconds.
fn created(number: u64) -> i64 {
    ((EPOCH_MILLIS + number) * 1000) as i64
}

pub(crate) fn role_name(number: u64) -> String {
    format!("Orders desk {number:06}")
}

pub(crate) fn title(number: u64) -> String {
    const TOWNS: [&str; 7] = ["Berlin", "Köln", "Łódź", "Graz", "Turku", "Porto", "Århus"];
    format!("Team {number:06} {}", TOWNS[(number % 7) as usize])
}

/// First name, last name, username.
pub(crate) fn person(number: u64) -> [String; 3] {
    const FIRST: [&str; 10] = [
        "Ann", "Björn", "Chloé", "Dana", "Emre", "Fatma", "Giorgos", "Hana", "Inés", "Jürgen",
    ];
    const LAST: [&str; 11] = [
        "Lee", "Kowalski", "Okafor", "Müller", "Sato", "Silva", "Novák", "Haddad", "Larsen",
        "Rossi", "Dubois",
    ];
    let first = FIRST[(number % 10) as usize].to_owned();
    let last = LAST[(number % 11) as usize].to_owned();
    let username = format!("u{number:07}@shop.example");
    [first, last, username]
}

/// Whether this rule of a role is a DENY rule.
pub(crate) fn denies(number: u64) -> bool {
    number == RULES - 1
}

/// Bundle, controller and action of a rule of a role; the eleventh is the DENY rule.
pub(crate) fn rule(role: u64, number: u64) -> [String; 3] {
    [
        format!("bundle-{}", role % 20),
        format!("orders-{role}"),
        ACTIONS[number as usize].to_owned(),
    ]
}
