//! Writing rows whose every value is known: nothing need be read back, which not every engine can do in the
//! same statement.

use sea_orm::{
    ActiveModelTrait, ConnectionTrait, DatabaseTransaction, EntityTrait, QueryFilter, QueryTrait,
    TryIntoModel, UpdateMany,
    sea_query::{Expr, InsertStatement, UpdateStatement},
};

use crate::error::Result;

/// What a row is read as.
type Model<A> = <<A as ActiveModelTrait>::Entity as EntityTrait>::Model;

/// Inserts a row, every column of which is set.
pub(super) async fn insert<A>(tx: &DatabaseTransaction, row: A) -> Result<Model<A>>
where
    A: ActiveModelTrait + TryIntoModel<Model<A>>,
{
    let (model, insert) = inserting(row)?;
    tx.execute(&insert).await?;
    Ok(model)
}

/// The statement that inserts a row, every column of which is set, and what the row is then.
pub(super) fn inserting<A>(row: A) -> Result<(Model<A>, InsertStatement)>
where
    A: ActiveModelTrait + TryIntoModel<Model<A>>,
{
    let model = row.clone().try_into_model()?;
    Ok((model, QueryTrait::into_query(A::Entity::insert(row))))
}

/// Writes the columns that are set of the row for which `wanted` holds; the others have their old values.
pub(super) async fn update<A>(tx: &DatabaseTransaction, row: A, wanted: Expr) -> Result<Model<A>>
where
    A: ActiveModelTrait + TryIntoModel<Model<A>>,
{
    let (model, update) = updating(row, wanted)?;
    tx.execute(&update).await?;
    Ok(model)
}

/// The statement that writes the columns that are set, and what the row is then.
pub(super) fn updating<A>(row: A, wanted: Expr) -> Result<(Model<A>, UpdateStatement)>
where
    A: ActiveModelTrait + TryIntoModel<Model<A>>,
{
    let model = row.clone().try_into_model()?;
    let update: UpdateMany<A::Entity> = A::Entity::update_many().set(row);
    Ok((model, update.filter(wanted).into_query()))
}
