//! Another process that writes to the same file, and takes its time.

use std::path::Path;

use sea_orm::{
    Database, DatabaseConnection, DatabaseTransaction, SqliteTransactionMode, TransactionOptions,
    TransactionTrait,
};

/// The file, held.
pub(crate) struct Hold {
    transaction: DatabaseTransaction,
    db: DatabaseConnection,
}

/// Begins to write, and goes on until released.
pub(crate) async fn hold(path: &Path) -> Hold {
    let url = format!("sqlite:{}", path.display());
    let db = Database::connect(url).await.expect("opens");
    let options = TransactionOptions {
        sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
        ..TransactionOptions::default()
    };
    let transaction = db.begin_with_options(options).await.expect("begins");
    Hold { transaction, db }
}

impl Hold {
    pub(crate) async fn release(self) {
        self.transaction.rollback().await.expect("rolled back");
        self.db.close().await.expect("closes");
    }
}
