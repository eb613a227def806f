//! An index of rules by the access requests that they match.

use super::{AccessRequest, Rule, WILDCARD, precedence};

/// An access request, prepared for lookups in the indexes of many roles.
#[derive(Debug)]
pub struct PreparedRequest<'a> {
    question: &'a AccessRequest,
    /// The digests of all patterns that match it.
    digests: [u64; 8],
}

impl<'a> PreparedRequest<'a> {
    /// Prepares an access request.
    #[must_use]
    pub fn new(question: &'a AccessRequest) -> Self {
        let any = digest(WILDCARD);
        let [a, b, c] = [&question.bundle, &question.controller, &question.action]
            .map(|part| [digest(&part.0), any]);
        let digests = std::array::from_fn(|i| combine(a[i >> 2 & 1], b[i >> 1 & 1], c[i & 1]));
        Self { question, digests }
    }
}

/// The rules of a role, indexed by their patterns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuleIndex {
    /// Sorted by bundle, controller, action and effect.
    rules: Box<[Rule]>,
    /// Indexes into `rules`, in order of precedence.
    order: Box<[u32]>,
    /// Indexes into `order` by the digest of the rule's patterns, sorted.
    ranks: Box<[(u64, u32)]>,
}

impl RuleIndex {
    /// Indexes rules.
    #[must_use]
    pub fn new(mut rules: Vec<Rule>) -> Self {
        rules.sort_unstable();
        let mut order: Vec<_> = (0..).zip(&rules).map(|(place, _)| place).collect();
        order.sort_unstable_by_key(|place: &u32| precedence(&rules[*place as usize]));
        let mut ranks: Vec<_> = order
            .iter()
            .zip(0..)
            .map(|(place, rank)| {
                let rule = &rules[*place as usize];
                let [a, b, c] =
                    [&rule.bundle, &rule.controller, &rule.action].map(|part| digest(&part.0));
                (combine(a, b, c), rank)
            })
            .collect();
        ranks.sort_unstable();
        Self {
            rules: rules.into(),
            order: order.into(),
            ranks: ranks.into(),
        }
    }

    /// The rule that decides the access request, if one matches: see [`super::decide`].
    #[must_use]
    pub fn deciding_rule(&self, asked: &PreparedRequest<'_>) -> Option<&Rule> {
        let matching = |rank: u32| {
            let rule = &self.rules[self.order[rank as usize] as usize];
            rule.matches(asked.question).then_some(rule)
        };
        if self.rules.len() <= MAX_LINEAR_RULES {
            return (0..).zip(&*self.order).find_map(|(rank, _)| matching(rank));
        }
        let mut least = None;
        for digest in asked.digests {
            let first = self.ranks.partition_point(|(other, _)| *other < digest);
            let found = self.ranks[first..]
                .iter()
                .take_while(|(other, _)| *other == digest)
                .map(|(_, rank)| *rank)
                .filter(|rank| least.is_none_or(|(least, _)| *rank < least))
                // Digests may collide.
                .find_map(|rank| Some((rank, matching(rank)?)));
            least = found.or(least);
        }
        least.map(|(_, rule)| rule)
    }

    /// Approximate memory size in bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        let text =
            |rule: &Rule| rule.bundle.0.len() + rule.controller.0.len() + rule.action.0.len();
        self.rules.iter().map(text).sum::<usize>() + self.rules.len() * (size_of::<Rule>() + 64)
    }

    /// The rules, sorted by bundle, controller, action and effect.
    #[must_use]
    pub fn to_vec(&self) -> Vec<Rule> {
        self.rules.to_vec()
    }
}

/// Up to this many rules, a linear scan is faster than the index.
const MAX_LINEAR_RULES: usize = 8;

/// FNV-1a, 64 bits (Fowler, Noll, Vo): fast for short texts; a collision only costs a comparison.
fn digest(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |digest, byte| {
        (digest ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

fn combine(a: u64, b: u64, c: u64) -> u64 {
    let mix = |a: u64, b: u64| (a.rotate_left(23) ^ b).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mix(mix(a, b), c)
}
