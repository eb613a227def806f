//! Rules and questions, prepared so that rules are found by what they match.

use super::{ANY, Question, Rule, deciding};

/// A question, prepared to be asked of many roles.
#[derive(Debug)]
pub struct Asked<'a> {
    question: &'a Question,
    /// Those of all that may match it.
    digests: [u64; 8],
}

impl<'a> Asked<'a> {
    /// Prepares a question.
    #[must_use]
    pub fn new(question: &'a Question) -> Self {
        let any = digest(ANY);
        let [a, b, c] = [&question.bundle, &question.controller, &question.action]
            .map(|part| [digest(&part.0), any]);
        let digests = std::array::from_fn(|i| combine(a[i >> 2 & 1], b[i >> 1 & 1], c[i & 1]));
        Self { question, digests }
    }
}

/// The rules of a role, found by what they match instead of one by one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// In order of bundle, controller, action and effect.
    rules: Box<[Rule]>,
    /// The places of the rules, in the order in which they decide.
    order: Box<[u32]>,
    /// The places in that order, by the digest of what the rules name.
    ranks: Box<[(u64, u32)]>,
}

impl Rules {
    /// Prepares rules for questions.
    #[must_use]
    pub fn new(mut rules: Vec<Rule>) -> Self {
        rules.sort_unstable();
        let mut order: Vec<_> = (0..).zip(&rules).map(|(place, _)| place).collect();
        order.sort_unstable_by_key(|place: &u32| deciding(&rules[*place as usize]));
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

    /// The rule that decides the question, if one matches: see [`super::decide`].
    #[must_use]
    pub fn deciding(&self, asked: &Asked<'_>) -> Option<&Rule> {
        let matching = |rank: u32| {
            let rule = &self.rules[self.order[rank as usize] as usize];
            rule.matches(asked.question).then_some(rule)
        };
        if self.rules.len() <= FEW {
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
                // Another pattern may have the same digest.
                .find_map(|rank| Some((rank, matching(rank)?)));
            least = found.or(least);
        }
        least.map(|(_, rule)| rule)
    }

    /// How many bytes they take, about.
    #[must_use]
    pub fn size(&self) -> usize {
        let text =
            |rule: &Rule| rule.bundle.0.len() + rule.controller.0.len() + rule.action.0.len();
        self.rules.iter().map(text).sum::<usize>() + self.rules.len() * (size_of::<Rule>() + 64)
    }

    /// The rules in order of bundle, controller, action and effect.
    #[must_use]
    pub fn to_vec(&self) -> Vec<Rule> {
        self.rules.to_vec()
    }
}

/// So few rules are looked through faster than they are looked up.
const FEW: usize = 8;

/// FNV-1a, 64 bits (Fowler, Noll, Vo): short texts, and a digest that two of them share costs a comparison.
fn digest(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |digest, byte| {
        (digest ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

fn combine(a: u64, b: u64, c: u64) -> u64 {
    let mix = |a: u64, b: u64| (a.rotate_left(23) ^ b).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mix(mix(a, b), c)
}
