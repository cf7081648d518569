//! An update without the lock, for a file that belongs to one process.

use serde_json::Value;

use crate::error::{FileError, UpdateError};
use crate::lock::Waited;
use crate::save::{Draft, load, resolve};

use super::{SharedFile, Updated, beside};

impl SharedFile {
    /// Changes a file that nobody else changes: as [`SharedFile::update`], without the lock. The file is the old or the
    /// new one, whole; of two changes at once one would be lost.
    ///
    /// # Errors
    /// [`UpdateError::Refused`] with the updater's error; [`UpdateError::File`].
    pub fn update_alone<R, E>(
        &self,
        updater: impl FnOnce(&mut Value) -> Result<R, E>,
    ) -> Result<Updated<R>, UpdateError<E>> {
        let path = resolve(&self.path)?;
        let loaded = load(&path, self.bytes_max)?;
        let (document, base) = self.parse(&path, &loaded)?;
        let mut value = base.clone().unwrap_or(Value::Null);
        let result = updater(&mut value).map_err(UpdateError::Refused)?;
        let unchanged = base.as_ref().map_or(value.is_null(), |base| *base == value);
        let waited = Waited::default();
        if !unchanged {
            document.change(base.as_ref(), &value);
            let nonce = commonhold_os::random::hex(&commonhold_os::random::uuid());
            let temporary = beside(&path, &format!(".{nonce}.tmp"));
            let draft =
                Draft::write(&path, &temporary, &document.text()).map_err(FileError::from)?;
            draft.place().map_err(FileError::from)?;
        }
        Ok(Updated { result, written: !unchanged, waited, merges: 0 })
    }
}
