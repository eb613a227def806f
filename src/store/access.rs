//! What access is decided from.

mod recall;

use std::collections::{BTreeSet, HashMap};

use sea_orm::{
    ColumnTrait, Condition, EntityTrait, FromQueryResult, JoinType, QueryFilter, QuerySelect,
    QueryTrait, RelationTrait, sea_query::SelectStatement,
};

use super::{
    At, Glance, Page, Read, Seen, View,
    page::{cut, revision},
    role::rules_told,
    user::KEYSET,
};
use crate::{
    domain::{
        CheckAccess, Effect, Grant, GroupId, GroupRef, ListUsersWithAccess, Name, Question,
        Revision, RoleId, RoleRef, Rule, UserId, UserStatus, Verdict, decide,
    },
    entity::{group, group_role, group_user, role, role_rule, user},
    error::Result,
};

/// What some users have by some rules: enough to decide questions without I/O.
#[derive(Debug)]
pub struct Grants {
    /// The revision that it reflects.
    pub revision: Revision,
    statuses: HashMap<UserId, UserStatus>,
    roles: HashMap<UserId, Vec<(RoleRef, GroupRef)>>,
    rules: HashMap<RoleId, Vec<Rule>>,
}

impl Grants {
    /// Decides a question about one of these users, by one of these rules.
    #[must_use]
    pub fn decide(&self, user: UserId, question: &Question) -> Verdict {
        let roles = self.roles.get(&user).into_iter().flatten();
        let grants = roles.flat_map(|(role, group)| {
            let rules = self.rules.get(&role.id).into_iter().flatten();
            rules.map(move |rule| Grant { rule, role, group })
        });
        decide(self.statuses.get(&user).copied(), grants, question)
    }
}

/// A user with one of the user's roles and groups, if there are any, beside the revision.
#[derive(FromQueryResult)]
struct Row {
    revision: Revision,
    user_id: UserId,
    status: UserStatus,
    group_id: Option<GroupId>,
    title: Option<Name>,
    role_id: Option<RoleId>,
    role_name: Option<Name>,
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

    /// Reads what the questions are decided from, in two statements.
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
    let rows = rows(view, users).await?;
    match rows.first() {
        Some(row) => view.saw(row.revision),
        // Where none of the users is there, no row tells the revision.
        None => view.tear(),
    }
    let mut grants = Grants {
        revision: Revision::NONE,
        statuses: HashMap::new(),
        roles: HashMap::new(),
        rules: HashMap::new(),
    };
    let mut roles = BTreeSet::new();
    for row in rows {
        grants.statuses.insert(row.user_id, row.status);
        let role = row.role_id.zip(row.role_name);
        let group = row.group_id.zip(row.title);
        if let Some(((id, name), (group, title))) = role.zip(group) {
            roles.insert(id);
            let pair = (RoleRef { id, name }, GroupRef { id: group, title });
            grants.roles.entry(row.user_id).or_default().push(pair);
        }
    }
    if !roles.is_empty() {
        grants.rules = rules_told(view, matching(&roles, questions)).await?;
    }
    grants.revision = view.revision();
    Ok(grants)
}

/// Every role of every group of these users.
async fn rows(view: &View<'_>, users: &BTreeSet<UserId>) -> Result<Vec<Row>> {
    let rows = user::Entity::find()
        .select_only()
        .expr_as(revision(), "revision")
        .column_as(user::Column::Id, "user_id")
        .column_as(user::Column::Status, "status")
        .column_as(group::Column::Id, "group_id")
        .column_as(group::Column::Title, "title")
        .column_as(role::Column::Id, "role_id")
        .column_as(role::Column::Name, "role_name")
        .join_rev(JoinType::LeftJoin, group_user::Relation::User.def())
        .join(JoinType::LeftJoin, group_user::Relation::Group.def())
        .join_rev(JoinType::LeftJoin, group_role::Relation::Group.def())
        .join(JoinType::LeftJoin, group_role::Relation::Role.def())
        .filter(user::Column::Id.is_in(users.iter().copied()))
        .into_model()
        .all(view.db())
        .await?;
    Ok(rows)
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
