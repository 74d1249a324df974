//! `foresee probe`: what frozen features are worth, beside raw pixels and a random encoder.

mod clips;
mod methods;
mod page;
mod plan;
mod published;
mod results;
mod run;
mod scores;
mod sim;
mod simulated;
mod table;

use std::process::ExitCode;

use clap::{Args, Subcommand};

use crate::memory::keep_pages;

use self::published::DataSet;

/// Arguments of `foresee probe`.
#[derive(Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Videos rendered from tasks, whose labels are exact.
    Sim(sim::Arguments),
    /// DAVIS-2017 in its own folders: JPEGImages/480p, Annotations/480p, ImageSets/2017/val.txt.
    Davis(published::Arguments),
    /// VIP in its own folders: Images, Annotations/Category_ids, lists/val_videos.txt.
    Vip(published::Arguments),
    /// JHMDB in its own folders: Rename_Images, joint_positions, splits.
    Jhmdb(published::Arguments),
    /// Still images in classes: train/<class>/*, val/<class>/*.
    Images(published::Arguments),
    /// Train every method at equal compute, probe them all, write the table of models/RESULTS.md.
    Results(results::Arguments),
}

/// Probes.
///
/// # Errors
/// One line that names what is wrong and the fix.
pub(crate) fn act(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    keep_pages();
    match &arguments.what {
        What::Sim(arguments) => sim::act(arguments),
        What::Davis(arguments) => published::act(DataSet::Davis, arguments),
        What::Vip(arguments) => published::act(DataSet::Vip, arguments),
        What::Jhmdb(arguments) => published::act(DataSet::Jhmdb, arguments),
        What::Images(arguments) => published::act_on_images(arguments),
        What::Results(arguments) => results::act(arguments),
    }
}
