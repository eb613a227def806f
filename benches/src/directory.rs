//! A directory of any size, told by numbers: what is in it needs no look at it.
//!
//! Every tenth of the groups has a role of its own, a group has three roles, a user is in three groups; beside
//! that, one group has a tenth of all users, and one user is in a tenth of all groups.

mod fill;
mod schema;

use std::path::{Path, PathBuf};

use uuid::{Builder, Uuid};

pub(crate) use fill::{add_users, keys, members, sql_id};

/// How many rules a role has: ten that allow, and one that denies.
pub(crate) const RULES: u64 = 11;
const ACTIONS: [&str; RULES as usize] = [
    "view", "list", "edit", "create", "delete", "export", "import", "approve", "refund", "archive",
    "purge",
];
/// When the directory was begun, in ms since 1970: the first day of 2025.
pub(crate) const BEGAN: u64 = 1_735_689_600_000;

/// How much is in a directory.
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

/// A directory in a SQLite file.
#[derive(Clone, Debug)]
pub(crate) struct Directory {
    pub(crate) path: PathBuf,
    pub(crate) size: Size,
}

impl Directory {
    /// Makes a directory, unless it is there from an earlier run.
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

    /// The id of a group, as callers write it.
    pub(crate) fn group(&self, number: u64) -> String {
        id(Kind::Group, number).to_string()
    }

    /// The id of a user, as callers write it.
    pub(crate) fn user(&self, number: u64) -> String {
        id(Kind::User, number).to_string()
    }

    /// The id of a role, as callers write it.
    pub(crate) fn role(&self, number: u64) -> String {
        id(Kind::Role, number).to_string()
    }

    /// The roles of a group.
    pub(crate) fn roles_of_group(&self, group: u64) -> [u64; 3] {
        let roles = self.roles();
        [0, 1, 2].map(|place| (group + place * (roles / 3)) % roles)
    }

    /// The groups of a user, without those that only the one in a tenth of all groups has.
    pub(crate) fn groups_of_user(&self, user: u64) -> [u64; 3] {
        let groups = self.size.groups;
        [0, 1, 2].map(|place| (user + place * (groups / 3)) % groups)
    }

    /// What a user may do: another of ten for each number.
    pub(crate) fn allowed(&self, user: u64, number: u64) -> [String; 3] {
        let role = self.roles_of_group(self.groups_of_user(user)[0])[0];
        rule(role, number % (RULES - 1))
    }

    /// A group, and a user who isn't in it: another pair for each number.
    pub(crate) fn apart(&self, number: u64) -> (u64, u64) {
        let Size { groups, users, .. } = self.size;
        let group = number % groups;
        let turn = number / groups;
        // Groups of a user are at least a third of all apart.
        let step = 1 + turn / (users / groups) % (groups / 3 - 1);
        let user = (group + step + turn % (users / groups) * groups) % users;
        (group, user)
    }

    /// Some numbers below `of`, evenly spread: alike hot in a small directory and in a large one. The first few
    /// are passed over, which have what others have not.
    pub(crate) fn spread(of: u64, some: u64) -> impl Iterator<Item = u64> {
        (0..some).map(move |place| (place * of / some + 5) % of)
    }
}

/// The group that a tenth of all users are in.
pub(crate) const HUB: u64 = 0;
/// The user who is in a tenth of all groups.
pub(crate) const EVERYWHERE: u64 = 0;

/// What ids are of.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Role = 1,
    Group,
    User,
}

/// A UUIDv7, as the server would have made it at the time.
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
    Builder::from_unix_timestamp_millis(BEGAN + number, &bytes).into_uuid()
}

/// When something of this number was created, in microseconds since 1970.
fn created(number: u64) -> i64 {
    ((BEGAN + number) * 1000) as i64
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

/// Whether a role's rule denies.
pub(crate) fn denies(number: u64) -> bool {
    number == RULES - 1
}

/// Bundle, controller and action of a role's rule; the eleventh denies.
pub(crate) fn rule(role: u64, number: u64) -> [String; 3] {
    [
        format!("bundle-{}", role % 20),
        format!("orders-{role}"),
        ACTIONS[number as usize].to_owned(),
    ]
}
