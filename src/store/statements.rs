//! Inserts and updates of rows whose column values are all known, so that nothing is read back: not every engine can
//! return rows from the statement that writes them.

use sea_orm::{
    ActiveModelTrait, ConnectionTrait, DatabaseTransaction, EntityTrait, QueryFilter, QueryTrait,
    TryIntoModel, UpdateMany,
    sea_query::{Expr, InsertStatement, UpdateStatement},
};

use crate::error::Result;

/// The model of a row.
type Model<A> = <<A as ActiveModelTrait>::Entity as EntityTrait>::Model;

/// Inserts a row, all of whose columns are set.
pub(super) async fn insert<A>(tx: &DatabaseTransaction, row: A) -> Result<Model<A>>
where
    A: ActiveModelTrait + TryIntoModel<Model<A>>,
{
    let (model, insert) = insert_statement(row)?;
    tx.execute(&insert).await?;
    Ok(model)
}

/// The statement that inserts a row, all of whose columns are set, and the resulting model.
pub(super) fn insert_statement<A>(row: A) -> Result<(Model<A>, InsertStatement)>
where
    A: ActiveModelTrait + TryIntoModel<Model<A>>,
{
    let model = row.clone().try_into_model()?;
    Ok((model, QueryTrait::into_query(A::Entity::insert(row))))
}

/// Updates the set columns of the row that matches `wanted`; the other columns of `row` hold their old values.
pub(super) async fn update<A>(tx: &DatabaseTransaction, row: A, wanted: Expr) -> Result<Model<A>>
where
    A: ActiveModelTrait + TryIntoModel<Model<A>>,
{
    let (model, update) = update_statement(row, wanted)?;
    tx.execute(&update).await?;
    Ok(model)
}

/// The statement that updates the set columns, and the resulting model.
pub(super) fn update_statement<A>(row: A, wanted: Expr) -> Result<(Model<A>, UpdateStatement)>
where
    A: ActiveModelTrait + TryIntoModel<Model<A>>,
{
    let model = row.clone().try_into_model()?;
    let update: UpdateMany<A::Entity> = A::Entity::update_many().set(row);
    Ok((model, update.filter(wanted).into_query()))
}
