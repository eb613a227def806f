//! Batches of questions, each answered for itself: what is wrong with one of them is told in its answer.

use prost::Message;
use tonic::Status;

use crate::{
    domain::{
        BatchCheckAccess, CheckAccess, FieldViolation, Question, Revision, UserId, Verdict,
        Violations,
    },
    error::Error,
    grpc::rule::read_question,
    pb,
};

/// How many questions one request may ask.
const MAX_QUESTIONS: usize = 1000;

impl TryFrom<pb::BatchCheckAccessRequest> for BatchCheckAccess {
    type Error = Error;

    fn try_from(request: pb::BatchCheckAccessRequest) -> Result<Self, Error> {
        let pb::BatchCheckAccessRequest {
            questions: asked,
            min_revision,
        } = request;
        let mut violations = Violations::default();
        let count = asked.len();
        if !(1..=MAX_QUESTIONS).contains(&count) {
            violations.add(
                "questions",
                format!("must have 1 to {MAX_QUESTIONS} entries, not {count}"),
            );
        }
        let mut questions = Vec::with_capacity(count.min(MAX_QUESTIONS));
        let mut malformed = Vec::new();
        for (index, question) in asked.into_iter().take(MAX_QUESTIONS).enumerate() {
            match read(question) {
                Ok(question) => questions.push(question),
                Err(found) => malformed.push((index, found)),
            }
        }
        let min_revision = violations.check("min_revision", Revision::parse(min_revision));
        match min_revision {
            Some(min_revision) if violations.is_empty() => Ok(Self {
                check: CheckAccess {
                    questions,
                    min_revision,
                },
                malformed,
            }),
            _ => {
                // The whole batch fails: then everything that is wrong with it is told at once.
                for (index, found) in malformed {
                    for FieldViolation { field, description } in found {
                        violations.add(format!("questions[{index}].{field}"), description);
                    }
                }
                Err(violations.into())
            }
        }
    }
}

fn read(question: pb::Question) -> Result<(UserId, Question), Vec<FieldViolation>> {
    let pb::Question {
        user_id,
        bundle,
        controller,
        action,
    } = question;
    let mut violations = Violations::default();
    let user = violations.id("user_id", &user_id);
    let question = read_question(&mut violations, "", [bundle, controller, action]);
    user.zip(question).ok_or_else(|| violations.into_vec())
}

/// The answers in the order of the questions: decisions, with the errors of the malformed ones at their places.
pub(super) fn answers(
    decided: Vec<Verdict>,
    malformed: Vec<(usize, Vec<FieldViolation>)>,
) -> Vec<pb::Answer> {
    let mut answers = Vec::with_capacity(decided.len() + malformed.len());
    let mut decided = decided.into_iter().map(pb::Answer::from);
    for (index, violations) in malformed {
        answers.extend(decided.by_ref().take(index - answers.len()));
        answers.push(pb::Answer {
            error: Some(error(violations)),
            ..Default::default()
        });
    }
    answers.extend(decided);
    answers
}

/// What the call would fail with, if it asked this question alone.
fn error(violations: Vec<FieldViolation>) -> tonic_types::Status {
    let status = Status::from(Error::Invalid(violations));
    tonic_types::Status::decode(status.details()).unwrap_or_else(|_| tonic_types::Status {
        code: status.code().into(),
        message: status.message().to_owned(),
        details: Vec::new(),
    })
}
