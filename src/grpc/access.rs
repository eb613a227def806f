//! `groups.v1.AccessService`. Batch checks are in `access/batch.rs`.

mod batch;

use tonic::{Request, Response, Status};

use super::{page::truncate_page, rule::read_access_request};
use crate::{
    domain::{
        BatchCheckAccess, CheckAccess, DecidingRule, Decision, ListUsersWithAccess, Order,
        PageRequest, Revision, Scope, UserId, Violations,
    },
    error::Error,
    pb::{self, access_service_server::AccessService},
    store::{self, AtRevision, Db, access::UsersWithAccess},
};

/// The implementation of `groups.v1.AccessService`.
#[derive(Debug)]
pub struct Access(pub Db);

#[tonic::async_trait]
impl AccessService for Access {
    async fn check_access(
        &self,
        request: Request<pb::CheckAccessRequest>,
    ) -> Result<Response<pb::CheckAccessResponse>, Status> {
        let check = CheckAccess::try_from(request.into_inner())?;
        let AtRevision { value, revision } = store::read(&self.0, &check).await?;
        let answer = value.into_iter().next().map(Into::into);
        let pb::Answer {
            decision,
            cause,
            grant,
            error: _,
        } = answer.unwrap_or_default();
        Ok(Response::new(pb::CheckAccessResponse {
            decision,
            cause,
            grant,
            revision: revision.number(),
        }))
    }

    async fn batch_check_access(
        &self,
        request: Request<pb::BatchCheckAccessRequest>,
    ) -> Result<Response<pb::BatchCheckAccessResponse>, Status> {
        let batch = BatchCheckAccess::try_from(request.into_inner())?;
        let AtRevision { value, revision } = store::read(&self.0, &batch.check).await?;
        Ok(Response::new(pb::BatchCheckAccessResponse {
            answers: batch::answers(value, batch.malformed),
            revision: revision.number(),
        }))
    }

    async fn list_users_with_access(
        &self,
        request: Request<pb::ListUsersWithAccessRequest>,
    ) -> Result<Response<pb::ListUsersWithAccessResponse>, Status> {
        let list = ListUsersWithAccess::try_from(request.into_inner())?;
        let UsersWithAccess {
            page,
            effective_rules,
        } = store::read(&self.0, &list).await?;
        let revision = page.revision.number();
        let page = page.map(|user| {
            let answer = pb::Answer::from(effective_rules.decide(user.id, &list.question));
            pb::UserWithAccess {
                user: Some(user.into()),
                grant: answer.grant,
            }
        });
        let (users, next_page_token) = truncate_page(page, &list.page.scope);
        Ok(Response::new(pb::ListUsersWithAccessResponse {
            users,
            next_page_token,
            revision,
        }))
    }
}

impl TryFrom<pb::CheckAccessRequest> for CheckAccess {
    type Error = Error;

    fn try_from(request: pb::CheckAccessRequest) -> Result<Self, Error> {
        let pb::CheckAccessRequest {
            user_id,
            bundle,
            controller,
            action,
            min_revision,
        } = request;
        let mut violations = Violations::default();
        let user = violations.id::<UserId>("user_id", &user_id);
        let question = read_access_request(&mut violations, "", [bundle, controller, action]);
        let min_revision = violations.check("min_revision", Revision::parse(min_revision));
        match (user, question, min_revision) {
            (Some(user), Some(question), Some(min_revision)) => Ok(Self {
                questions: vec![(user, question)],
                min_revision,
            }),
            _ => Err(violations.into()),
        }
    }
}

impl TryFrom<pb::ListUsersWithAccessRequest> for ListUsersWithAccess {
    type Error = Error;

    fn try_from(request: pb::ListUsersWithAccessRequest) -> Result<Self, Error> {
        let pb::ListUsersWithAccessRequest {
            bundle,
            controller,
            action,
            page_size,
            page_token,
            min_revision,
        } = request;
        let mut violations = Violations::default();
        let scope = Scope::new("users with access").words(&[&bundle, &controller, &action]);
        let question = read_access_request(&mut violations, "", [bundle, controller, action]);
        let min_revision = violations.check("min_revision", Revision::parse(min_revision));
        let order = Some(Order::BY_NAME);
        let page = PageRequest::parse(&mut violations, page_size, &page_token, order, Some(scope));
        match (question, page, min_revision) {
            (Some(question), Some(page), Some(min_revision)) => Ok(Self {
                question,
                page,
                min_revision,
            }),
            _ => Err(violations.into()),
        }
    }
}

impl From<Decision> for pb::Answer {
    fn from(verdict: Decision) -> Self {
        let (decision, cause, grant) = match verdict {
            Decision::Allowed(grant) => (pb::Decision::Allowed, pb::Cause::AllowRule, Some(grant)),
            Decision::Denied(grant) => (pb::Decision::Denied, pb::Cause::DenyRule, Some(grant)),
            Decision::NoMatchingRule => (pb::Decision::Denied, pb::Cause::NoRule, None),
            Decision::Blocked => (pb::Decision::Denied, pb::Cause::UserBlocked, None),
            Decision::UnknownUser => (pb::Decision::Denied, pb::Cause::UserUnknown, None),
        };
        Self {
            decision: decision.into(),
            cause: cause.into(),
            grant: grant.map(Into::into),
            error: None,
        }
    }
}

impl From<DecidingRule> for pb::Grant {
    fn from(DecidingRule { rule, role, group }: DecidingRule) -> Self {
        Self {
            rule: Some(rule.into()),
            role: Some(role.into()),
            group: Some(group.into()),
        }
    }
}
