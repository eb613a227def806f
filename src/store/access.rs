//! Reads of access: decisions, and the users who have access.

mod assignments;
mod read_cached;

use std::collections::{BTreeSet, HashMap};

use sea_orm::{
    ColumnTrait, Condition, EntityTrait, FromQueryResult, JoinType, QueryFilter, QuerySelect,
    QueryTrait, RelationTrait, sea_query::SelectStatement,
};

use self::assignments::{DisplayNames, RoleAssignments};
use super::{
    AtRevision, CacheSnapshot, HasRevision, Page, Read, View,
    page::{paginate, revision_column},
    role::rules_with_revision,
    user::KEYSET,
};
use crate::{
    domain::{
        AccessRequest, CheckAccess, Decision, Effect, EffectiveRule, ListUsersWithAccess, Revision,
        RoleId, Rule, UserId, UserStatus, decide,
    },
    entity::{group_role, group_user, role_rule, user},
    error::Result,
};

/// The rules that apply to some users through their groups and roles: enough to decide access requests without I/O.
#[derive(Debug)]
pub struct EffectiveRules {
    /// The revision that they reflect.
    pub revision: Revision,
    assignments: RoleAssignments,
    names: DisplayNames,
    rules: HashMap<RoleId, Vec<Rule>>,
}

impl EffectiveRules {
    /// Decides an access request. These rules must have been loaded for the user and the request.
    #[must_use]
    pub fn decide(&self, user: UserId, question: &AccessRequest) -> Decision {
        let Self {
            assignments,
            names,
            rules,
            revision: _,
        } = self;
        let user = assignments.users.get(&user);
        let groups = user.into_iter().flat_map(|(_, groups)| groups);
        let held =
            groups.filter_map(|id| Some((names.groups.get(id)?, assignments.groups.get(id)?)));
        let effective_rules = held.flat_map(|(group, held)| {
            let held = held.iter().filter_map(|role| names.roles.get(role));
            held.flat_map(move |role| {
                let rules = rules.get(&role.id).into_iter().flatten();
                rules.map(move |rule| EffectiveRule { rule, role, group })
            })
        });
        decide(user.map(|(status, _)| *status), effective_rules, question)
    }
}

impl Read for CheckAccess {
    /// A decision for each of the `questions`, in their order.
    type Output = AtRevision<Vec<Decision>>;

    const REPORTS_REVISION: bool = true;
    const CACHEABLE: bool = true;

    fn min_revision(&self) -> Revision {
        self.min_revision
    }

    async fn read_cached(&self, snapshot: &CacheSnapshot<'_>) -> Result<Option<Self::Output>> {
        read_cached::check(snapshot, &self.questions).await
    }

    /// Reads the rules by which the questions are decided, in five statements for a few users.
    async fn read(&self, view: &View<'_>) -> Result<Self::Output> {
        let questions = self.questions.iter();
        let users = questions.clone().map(|(user, _)| *user).collect();
        let asked = questions.clone().map(|(_, question)| question).collect();
        let effective_rules = load_effective_rules(view, &users, &asked).await?;
        Ok(AtRevision {
            value: questions
                .map(|(user, question)| effective_rules.decide(*user, question))
                .collect(),
            revision: effective_rules.revision,
        })
    }
}

/// Users who have access, with the rules that decide it.
#[derive(Debug)]
pub struct UsersWithAccess {
    /// The users.
    pub page: Page<user::Model>,
    /// The rules that apply to them.
    pub effective_rules: EffectiveRules,
}

impl HasRevision for UsersWithAccess {
    fn revision(&self) -> Revision {
        self.effective_rules.revision
    }
}

impl Read for ListUsersWithAccess {
    type Output = UsersWithAccess;

    const REPORTS_REVISION: bool = true;

    fn min_revision(&self) -> Revision {
        self.min_revision
    }

    async fn read(&self, view: &View<'_>) -> Result<UsersWithAccess> {
        let question = &self.question;
        let select = user::Entity::find()
            .expr_as(revision_column(), "revision")
            .filter(user::Column::Status.eq(UserStatus::Active))
            .filter(user::Column::Id.in_subquery(users_with_rule(question, Effect::Allow)))
            .filter(user::Column::Id.not_in_subquery(users_with_rule(question, Effect::Deny)));
        let select = KEYSET.select(select, &self.page).into_model();
        let rows: Vec<UserAtRevision> = select.all(view.db()).await?;
        match rows.first() {
            Some(row) => view.observe_revision(row.revision),
            None => view.mark_inconsistent(),
        }
        let models = rows.into_iter().map(|row| row.user).collect();
        let mut page = paginate(models, &self.page, super::user::cursor);
        let users = page.rows.iter().map(|(user, _)| user.id).collect();
        let effective_rules =
            load_effective_rules(view, &users, &BTreeSet::from([question])).await?;
        page.revision = effective_rules.revision;
        Ok(UsersWithAccess {
            page,
            effective_rules,
        })
    }
}

/// A user, and the revision at which the row was read.
#[derive(FromQueryResult)]
struct UserAtRevision {
    #[sea_orm(nested)]
    user: user::Model,
    revision: Revision,
}

async fn load_effective_rules(
    view: &View<'_>,
    users: &BTreeSet<UserId>,
    questions: &BTreeSet<&AccessRequest>,
) -> Result<EffectiveRules> {
    let assignments = RoleAssignments::read(view, users).await?;
    let roles = assignments.roles();
    let mut rules = HashMap::new();
    if !roles.is_empty() {
        rules = rules_with_revision(view, matching(&roles, questions)).await?;
    }
    let mut names = DisplayNames::default();
    if !rules.is_empty() {
        names = assignments
            .names(view, &rules.keys().copied().collect())
            .await?;
    }
    Ok(EffectiveRules {
        revision: view.revision(),
        assignments,
        names,
        rules,
    })
}

/// The condition that a rule is of one of these roles, and may match one of the questions.
fn matching(roles: &BTreeSet<RoleId>, questions: &BTreeSet<&AccessRequest>) -> Condition {
    use role_rule::Column as C;
    let distinct = |part: fn(&AccessRequest) -> &str| {
        let asked: BTreeSet<_> = questions.iter().map(|question| part(question)).collect();
        asked.into_iter().chain(["*"])
    };
    Condition::all()
        .add(C::RoleId.is_in(roles.iter().copied()))
        .add(C::Bundle.is_in(distinct(|question| question.bundle.as_str())))
        .add(C::Controller.is_in(distinct(|question| question.controller.as_str())))
        .add(C::Action.is_in(distinct(|question| question.action.as_str())))
}

/// Selects the users who have a rule of this effect that matches the question.
fn users_with_rule(question: &AccessRequest, effect: Effect) -> SelectStatement {
    use role_rule::Column as C;
    let AccessRequest {
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
