//! An update without the lock, for a file that belongs to one process.

use serde_json::Value;

use crate::error::{FileError, UpdateError};
use crate::lock::Waited;
use crate::save::{Draft, Loaded, Placed, Stamp, may_write, resolve};

use super::{MERGES_MAX, SharedFile, Updated, backup_path, beside, edit_error, lock_path};

impl SharedFile {
    /// Changes a file that belongs to this process: as [`SharedFile::update`], without the lock. The file is the old or
    /// the new one, whole; a change that somebody makes in between all the same is merged as there, but of two updates
    /// at once one may be lost.
    ///
    /// # Errors
    /// [`UpdateError::Refused`] with the updater's error; [`UpdateError::File`].
    pub fn update_alone<R, E>(
        &self,
        updater: impl FnOnce(&mut Value) -> Result<R, E>,
    ) -> Result<Updated<R>, UpdateError<E>> {
        let path = resolve(&self.path)?;
        let loaded = self.load(&path)?;
        may_write(&path).map_err(FileError::from)?;
        let (document, base) = self.parse(&path, &loaded)?;
        let mut value = base.clone().unwrap_or(Value::Null);
        let result = updater(&mut value).map_err(UpdateError::Refused)?;
        let waited = Waited::default();
        if base.as_ref().map_or(value.is_null(), |base| *base == value) {
            return Ok(Updated { result, written: false, waited, merges: 0 });
        }
        let edited = |text: Result<Vec<u8>, String>| text.map_err(|why| edit_error(&path, why));
        let mut text = edited(document.changed(base.as_ref(), &value))?;
        let (mut seen, base) = (loaded.stamp, base.unwrap_or(Value::Null));
        let backup = self.backup.then(|| backup_path(&path));
        for merges in 0..MERGES_MAX {
            let nonce = commonhold_os::random::hex(&commonhold_os::random::uuid());
            let temporary = beside(&path, &format!(".{nonce}.tmp"));
            let draft = Draft::write(&path, &temporary, &text).map_err(FileError::from)?;
            let placed = draft.place(seen.as_ref(), backup.as_deref()).map_err(FileError::from)?;
            let theirs = match placed {
                Placed::Well => return Ok(Updated { result, written: true, waited, merges }),
                Placed::Taken => self.load(&path)?,
                // What is there now is ours.
                Placed::Over(theirs) => {
                    Loaded { stamp: Stamp::now(&path).map_err(FileError::from)?, ..theirs }
                }
            };
            let (document, there) = self.parse(&path, &theirs)?;
            let merged = self.merge.three_way(&base, &value, there.as_ref());
            text = edited(document.changed(there.as_ref(), &merged))?;
            seen = theirs.stamp;
        }
        let lock = lock_path(&path);
        Err(FileError::Contended { path, lock, times: MERGES_MAX }.into())
    }
}
