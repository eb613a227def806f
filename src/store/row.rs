//! Writing rows whose every value is known: nothing need be read back, which not every engine can do in the
//! same statement.

use sea_orm::{
    ActiveModelTrait, DatabaseTransaction, EntityTrait, QueryFilter, TryIntoModel, UpdateMany,
    sea_query::Expr,
};

use crate::error::Result;

/// What a row is read as.
type Model<A> = <<A as ActiveModelTrait>::Entity as EntityTrait>::Model;

/// Inserts a row, every column of which is set.
pub(super) async fn insert<A>(tx: &DatabaseTransaction, row: A) -> Result<Model<A>>
where
    A: ActiveModelTrait + TryIntoModel<Model<A>>,
{
    let model = row.clone().try_into_model()?;
    A::Entity::insert(row).exec_without_returning(tx).await?;
    Ok(model)
}

/// Writes the columns that are set of the row for which `wanted` holds; the others have their old values.
pub(super) async fn update<A>(tx: &DatabaseTransaction, row: A, wanted: Expr) -> Result<Model<A>>
where
    A: ActiveModelTrait + TryIntoModel<Model<A>>,
{
    let model = row.clone().try_into_model()?;
    let update: UpdateMany<A::Entity> = A::Entity::update_many().set(row);
    update.filter(wanted).exec(tx).await?;
    Ok(model)
}
