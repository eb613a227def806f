//! Batch access checks. Each question is answered on its own: an invalid one gets an error in its answer.

use prost::Message;
use tonic::Status;

use crate::{
    domain::{
        AccessRequest, BatchCheckAccess, CheckAccess, Decision, FieldViolation, Revision, UserId,
        Violations,
    },
    error::Error,
    grpc::rule::read_access_request,
    pb,
};

/// Maximum number of questions in one request.
const MAX_REQUESTS: usize = 1000;

impl TryFrom<pb::BatchCheckAccessRequest> for BatchCheckAccess {
    type Error = Error;

    fn try_from(request: pb::BatchCheckAccessRequest) -> Result<Self, Error> {
        let pb::BatchCheckAccessRequest {
            questions: asked,
            min_revision,
        } = request;
        let mut violations = Violations::default();
        let count = asked.len();
        if !(1..=MAX_REQUESTS).contains(&count) {
            violations.add(
                "questions",
                format!("must have 1 to {MAX_REQUESTS} entries, not {count}"),
            );
        }
        let mut questions = Vec::with_capacity(count.min(MAX_REQUESTS));
        let mut malformed = Vec::new();
        for (index, question) in asked.into_iter().take(MAX_REQUESTS).enumerate() {
            match parse_one(question) {
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
                // The whole batch fails, so it reports the violations of every question at once.
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

fn parse_one(question: pb::Question) -> Result<(UserId, AccessRequest), Vec<FieldViolation>> {
    let pb::Question {
        user_id,
        bundle,
        controller,
        action,
    } = question;
    let mut violations = Violations::default();
    let user = violations.id("user_id", &user_id);
    let question = read_access_request(&mut violations, "", [bundle, controller, action]);
    user.zip(question).ok_or_else(|| violations.into_vec())
}

/// The answers in the order of the questions: decisions, and the errors of malformed questions at their positions.
pub(super) fn answers(
    decided: Vec<Decision>,
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

/// The status with which a call for this question alone would fail.
fn error(violations: Vec<FieldViolation>) -> tonic_types::Status {
    let status = Status::from(Error::Invalid(violations));
    tonic_types::Status::decode(status.details()).unwrap_or_else(|_| tonic_types::Status {
        code: status.code().into(),
        message: status.message().to_owned(),
        details: Vec::new(),
    })
}
