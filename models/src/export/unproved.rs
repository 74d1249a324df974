//! A model on its way: in a folder of its own beside its place until its card is whole, so that nothing unproved is ever served and
//! what was there before stays until then.

use std::path::{Path, PathBuf};

use foresee_runtime::ModelCard;

use crate::error::ModelsError;

/// A hidden folder beside the place of a model; it goes with this value.
pub(super) struct Unproved<'a> {
    folder: PathBuf,
    model: PathBuf,
    place: &'a Path,
}

impl<'a> Unproved<'a> {
    /// An empty folder `.<name>.unproved`; what a killed export left there goes.
    pub(super) fn beside(place: &'a Path) -> Result<Self, ModelsError> {
        let name = place.file_name().unwrap_or_default();
        let folder = place.with_file_name(format!(".{}.unproved", name.to_string_lossy()));
        let fail = |source| ModelsError::File { path: folder.clone(), source };
        if folder.exists() {
            std::fs::remove_dir_all(&folder).map_err(fail)?;
        }
        std::fs::create_dir(&folder).map_err(fail)?;
        Ok(Self { model: folder.join(name), folder, place })
    }

    pub(super) fn model(&self) -> &Path {
        &self.model
    }

    /// Model, then card: between the two, the old card refuses the new model.
    pub(super) fn publish(self) -> Result<(), ModelsError> {
        for (from, to) in [
            (self.model.clone(), self.place.to_path_buf()),
            (ModelCard::path_of(&self.model), ModelCard::path_of(self.place)),
        ] {
            std::fs::rename(from, &to).map_err(|source| ModelsError::File { path: to, source })?;
        }
        Ok(())
    }
}

impl Drop for Unproved<'_> {
    fn drop(&mut self) {
        // The next export to this place removes what cannot be removed now.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
