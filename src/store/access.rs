//! What access is decided from.

mod holdings;
mod recall;

use std::collections::{BTreeSet, HashMap};

use sea_orm::{
    ColumnTrait, Condition, EntityTrait, FromQueryResult, JoinType, QueryFilter, QuerySelect,
    QueryTrait, RelationTrait, sea_query::SelectStatement,
};

use self::holdings::{Holdings, Names};
use super::{
    At, Glance, Page, Read, Seen, View,
    page::{cut, revision},
    role::rules_told,
    user::KEYSET,
};
use crate::{
    domain::{
        CheckAccess, Effect, Grant, ListUsersWithAccess, Question, Revision, RoleId, Rule, UserId,
        UserStatus, Verdict, decide,
    },
    entity::{group_role, group_user, role_rule, user},
    error::Result,
};

/// What some users have by some rules: enough to decide questions without I/O.
#[derive(Debug)]
pub struct Grants {
    /// The revision that it reflects.
    pub revision: Revision,
    holdings: Holdings,
    names: Names,
    rules: HashMap<RoleId, Vec<Rule>>,
}

impl Grants {
    /// Decides a question about one of these users, by one of these rules.
    #[must_use]
    pub fn decide(&self, user: UserId, question: &Question) -> Verdict {
        let Self {
            holdings,
            names,
            rules,
            revision: _,
        } = self;
        let user = holdings.users.get(&user);
        let groups = user.into_iter().flat_map(|(_, groups)| groups);
        let held = groups.filter_map(|id| Some((names.groups.get(id)?, holdings.groups.get(id)?)));
        let grants = held.flat_map(|(group, held)| {
            let held = held.iter().filter_map(|role| names.roles.get(role));
            held.flat_map(move |role| {
                let rules = rules.get(&role.id).into_iter().flatten();
                rules.map(move |rule| Grant { rule, role, group })
            })
        });
        decide(user.map(|(status, _)| *status), grants, question)
    }
}

impl Read for CheckAccess {
    /// An answer to each question.
    type Output = At<Vec<Verdict>>;

    const TELLS: bool = true;
    const CACHED: bool = true;

    fn min_revision(&self) -> Revision {
        self.min_revision
    }

    async fn recall(&self, glance: &Glance<'_>) -> Result<Option<Self::Output>> {
        recall::check(glance, &self.questions).await
    }

    /// Reads what the questions are decided from, in five statements for a few users.
    async fn read(&self, view: &View<'_>) -> Result<Self::Output> {
        let questions = self.questions.iter();
        let users = questions.clone().map(|(user, _)| *user).collect();
        let asked = questions.clone().map(|(_, question)| question).collect();
        let grants = grants(view, &users, &asked).await?;
        Ok(At {
            value: questions
                .map(|(user, question)| grants.decide(*user, question))
                .collect(),
            revision: grants.revision,
        })
    }
}

/// Users who may do something, with what that is decided from.
#[derive(Debug)]
pub struct Allowed {
    /// The users.
    pub page: Page<user::Model>,
    /// What they have.
    pub grants: Grants,
}

impl Seen for Allowed {
    fn revision(&self) -> Revision {
        self.grants.revision
    }
}

impl Read for ListUsersWithAccess {
    type Output = Allowed;

    const TELLS: bool = true;

    fn min_revision(&self) -> Revision {
        self.min_revision
    }

    async fn read(&self, view: &View<'_>) -> Result<Allowed> {
        let question = &self.question;
        let select = user::Entity::find()
            .expr_as(revision(), "revision")
            .filter(user::Column::Status.eq(UserStatus::Active))
            .filter(user::Column::Id.in_subquery(users_by(question, Effect::Allow)))
            .filter(user::Column::Id.not_in_subquery(users_by(question, Effect::Deny)));
        let select = KEYSET.select(select, &self.page).into_model();
        let rows: Vec<UserAt> = select.all(view.db()).await?;
        match rows.first() {
            Some(row) => view.saw(row.revision),
            None => view.tear(),
        }
        let models = rows.into_iter().map(|row| row.user).collect();
        let mut page = cut(models, &self.page, super::user::cursor);
        let users = page.rows.iter().map(|(user, _)| user.id).collect();
        let grants = grants(view, &users, &BTreeSet::from([question])).await?;
        page.revision = grants.revision;
        Ok(Allowed { page, grants })
    }
}

/// A user beside the revision that the user was read at.
#[derive(FromQueryResult)]
struct UserAt {
    #[sea_orm(nested)]
    user: user::Model,
    revision: Revision,
}

async fn grants(
    view: &View<'_>,
    users: &BTreeSet<UserId>,
    questions: &BTreeSet<&Question>,
) -> Result<Grants> {
    let holdings = Holdings::read(view, users).await?;
    let roles = holdings.roles();
    let mut rules = HashMap::new();
    if !roles.is_empty() {
        rules = rules_told(view, matching(&roles, questions)).await?;
    }
    let mut names = Names::default();
    if !rules.is_empty() {
        names = holdings
            .names(view, &rules.keys().copied().collect())
            .await?;
    }
    Ok(Grants {
        revision: view.revision(),
        holdings,
        names,
        rules,
    })
}

/// Of these roles, and such that it may match any of the questions.
fn matching(roles: &BTreeSet<RoleId>, questions: &BTreeSet<&Question>) -> Condition {
    use role_rule::Column as C;
    let distinct = |part: fn(&Question) -> &str| {
        let asked: BTreeSet<_> = questions.iter().map(|question| part(question)).collect();
        asked.into_iter().chain(["*"])
    };
    Condition::all()
        .add(C::RoleId.is_in(roles.iter().copied()))
        .add(C::Bundle.is_in(distinct(|question| question.bundle.as_str())))
        .add(C::Controller.is_in(distinct(|question| question.controller.as_str())))
        .add(C::Action.is_in(distinct(|question| question.action.as_str())))
}

/// The users who have a rule of this effect that matches the question.
fn users_by(question: &Question, effect: Effect) -> SelectStatement {
    use role_rule::Column as C;
    let Question {
        bundle,
        controller,
        action,
    } = question;
    let roles = role_rule::Entity::find()
        .select_only()
        .column(C::RoleId)
        .filter(C::Bundle.is_in([bundle.as_str(), "*"]))
        .filter(C::Controller.is_in([controller.as_str(), "*"]))
        .filter(C::Action.is_in([action.as_str(), "*"]))
        .filter(C::Effect.eq(effect))
        .into_query();
    group_role::Entity::find()
        .select_only()
        .column(group_user::Column::UserId)
        .join(JoinType::InnerJoin, group_role::Relation::GroupUser.def())
        .filter(group_role::Column::RoleId.in_subquery(roles))
        .into_query()
}
