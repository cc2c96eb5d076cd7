//! The clauses: the whole contract as sentences with code, area by area.
//!
//! [`each_clause!`](crate::each_clause) is the one list. The runner, the tests that
//! [`conformance_tests!`](crate::conformance_tests) makes, the reports and the documentation all come from it.

use crate::Clause;

/// Hands the list of clauses to a macro, as `area { name, .. }` for each area.
#[doc(hidden)]
#[macro_export]
macro_rules! each_clause {
    ($($then:tt)+) => {
        $($then)+! {
            identity {
                info_is_constant,
                capabilities_are_constant,
                answers_have_reasons,
                undeclared_is_refused,
                unknown_id_is_not_found,
            }
            create {
                leaves_created,
                does_not_run_the_program,
                rejects_duplicate_id,
                rejects_missing_bundle,
                rejects_broken_config,
                rejects_missing_program,
                rejects_missing_log_directory,
                rejects_symlinked_log,
                rejects_tiny_log_limits,
                closes_input_unless_asked,
                leaves_bundle_unchanged,
                ignores_later_changes,
                shares_a_bundle,
                dropped_leaves_nothing,
            }
            log {
                cri_format,
                marks_pieces,
                limits_its_size,
                keeps_binary_data,
                is_private,
                continues_a_file,
            }
            start {
                runs_the_program,
                twice_is_refused,
                after_the_end_is_refused,
            }
            state {
                unknown_is_not_found,
                follows_the_life,
                times_are_ordered,
                exit_equals_wait,
                keeps_annotations_and_labels,
                answers_during_a_stop,
            }
            list {
                empty_without_containers,
                oldest_first,
                agrees_with_state,
            }
            kill {
                delivers_the_signal,
                delivers_many_signals,
                delivers_real_time_signals,
                kill_ends_it,
                stopped_is_refused,
                created_dies_of_kill,
                created_accepts_signals,
                paused_dies_of_kill,
                paused_keeps_signals_pending,
            }
            stop {
                keeps_the_programs_code,
                kills_after_the_grace,
                zero_grace_kills,
                sends_the_configured_signal,
                kills_created,
                thaws_paused,
                stopped_changes_nothing,
                shorter_grace_shortens,
                longer_grace_does_not_lengthen,
                many_callers_agree,
                dropped_goes_on,
            }
            wait {
                gives_the_exit_code,
                gives_the_code_of_a_short_life,
                gives_signal_deaths,
                blocks_until_the_end,
                answers_late_callers,
                answers_many_callers,
                survives_a_delete,
                after_delete_is_not_found,
                dropped_changes_nothing,
                tells_want_of_memory,
            }
            delete {
                frees_the_id,
                running_is_refused,
                paused_is_refused,
                kills_created,
                force_kills,
                force_kills_paused,
                force_of_unknown_is_ok,
                again_is_not_found,
                keeps_the_log,
                leaves_no_process,
            }
            exec {
                carries_streams_apart,
                carries_input,
                carries_large_streams,
                works_without_streams,
                gives_the_exit_code,
                missing_program_is_rejected,
                times_out,
                dropped_ends_descendants,
                ignores_background_children,
                needs_a_running_container,
                slow_client_slows_itself_alone,
                goes_on_without_a_stream,
                works_during_the_grace,
                ends_with_the_container,
                passes_descriptors,
            }
            exec_tty {
                merges_streams,
                carries_input,
                begins_with_the_wanted_size,
                follows_sizes,
                carries_large_output,
                serves_collected_execs,
            }
            exec_sync {
                separates_output,
                gives_the_exit_code,
                passes_process_settings,
                runs_as_the_user,
                keeps_the_containers_privileges,
                missing_program_is_rejected,
                times_out,
                timeout_ends_descendants,
                limits_output,
                ignores_background_children,
                needs_a_running_container,
                runs_in_parallel,
                works_during_the_grace,
                ends_with_the_container,
                meets_the_kill,
                dropped_ends_descendants,
            }
            exec_session {
                runs_the_program,
                passes_process_settings,
                keeps_the_exit_code,
                known_id_is_refused,
                needs_a_running_container,
                missing_program_is_rejected,
                dropped_start_leaves_nothing,
                attach_carries_streams,
                attach_serves_several_clients,
                attach_needs_a_running_session,
                stop_keeps_the_programs_code,
                stop_kills_after_the_grace,
                stop_shorter_grace_shortens,
                stop_dropped_goes_on,
                stop_of_stopped_changes_nothing,
                stop_in_a_paused_container_is_refused,
                has_a_terminal,
                resize_reaches_the_program,
                resize_needs_a_terminal,
                cleanup_frees_the_id,
                cleanup_of_running_is_refused,
                unknown_is_not_found,
                outlives_a_reopen,
                ends_with_the_container,
            }
            attach {
                before_start_misses_nothing,
                carries_input,
                serves_several_clients,
                ends_with_the_program,
                stopped_is_refused,
                carries_large_output,
                carries_large_input,
                keeps_input_open,
                detaches_by_keys,
                waits_for_slow_clients,
                cuts_off_silent_clients,
                silent_clients_hold_up_no_others,
                shows_a_terminal,
                sets_the_first_size,
                passes_sizes_on,
                serves_later_clients,
            }
            attach_resize {
                reaches_the_program,
                last_of_a_burst_wins,
                needs_a_terminal,
                stopped_is_refused,
            }
            pause {
                freezes_until_resume,
                twice_is_refused,
                needs_a_running_container,
            }
            resume {
                needs_a_paused_container,
            }
            update {
                changes_limits,
                keeps_what_is_not_named,
                paused_stays_paused,
                stopped_is_refused,
                nothing_is_invalid,
                refused_limits_change_nothing,
            }
            stats {
                counts_what_is_used,
                grows_with_work,
                sees_memory,
                shows_limits,
                answers_while_paused,
                stopped_is_refused,
            }
            stats_disk {
                tells_the_file_system,
                stopped_is_refused,
            }
            log_reopen {
                goes_on_in_a_new_file,
                loses_nothing,
                changes_nothing_without_a_rename,
                at_once_is_safe,
                works_during_the_grace,
                stopped_is_refused,
            }
            monitor_probe {
                finds_it_alive,
                stopped_is_refused,
            }
            events {
                tells_starts_and_ends,
                tells_ends_by_force,
                reaches_every_subscriber,
                begins_with_the_subscription,
                tells_want_of_memory,
                tells_what_others_do,
                ends_with_the_value,
            }
            ports {
                reaches_both_families,
                client_may_end_first,
                program_may_end_first,
                carries_much,
                closed_port_is_rejected,
                needs_a_running_container,
                ends_with_the_container,
            }
            checkpoint {
                ends_the_container,
                end_survives_a_reopen,
                leaves_it_running,
                leaves_it_paused,
                needs_a_running_container,
                failure_changes_nothing,
                undeclared_options_are_refused,
                dropped_is_whole_or_nothing,
            }
            restore {
                continues_the_program,
                continues_the_log,
                serves_many_times,
                is_a_whole_life,
                rejects_a_known_id,
                rejects_broken_images,
            }
            reopen {
                paused_stays_paused,
                running_stays_running,
                exit_while_away_is_known,
            }
            concurrency {
                lives_side_by_side,
                one_create_wins,
                delete_against_state,
            }
        }
    };
}

macro_rules! areas_and_list {
    ($($area:ident { $($name:ident,)+ })+) => {
        $(
            #[doc = concat!("The clauses of the area `", stringify!($area), "`.")]
            pub mod $area;
        )+

        /// Every clause, in the order of the trait's documentation.
        pub static ALL: &[&Clause] = &[$($(&$area::$name::CLAUSE,)+)+];
    };
}

each_clause! { areas_and_list }

/// The clause with this id.
#[must_use]
pub fn find(id: &str) -> Option<&'static Clause> {
    ALL.iter().copied().find(|clause| clause.id == id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    macro_rules! names {
        ($($area:ident { $($name:ident,)+ })+) => {
            &[$($((stringify!($area), stringify!($name), &$area::$name::CLAUSE),)+)+]
        };
    }

    #[test]
    fn an_id_is_the_area_and_the_name_of_the_function() {
        let listed: &[(&str, &str, &Clause)] = each_clause!(names);
        for (area, name, clause) in listed {
            let expected = format!("{}.{}", area.replace('_', "."), name.replace('_', "-"));
            assert_eq!(clause.id, expected);
        }
    }

    #[test]
    fn ids_are_unique_and_titles_are_sentences() {
        let ids: BTreeSet<_> = ALL.iter().map(|clause| clause.id).collect();
        assert_eq!(ids.len(), ALL.len());
        for clause in ALL {
            assert!(clause.title.ends_with('.') && clause.title.len() > 20, "{}", clause.id);
            assert!(clause.deadline >= Clause::DEADLINE, "{}", clause.id);
        }
    }

    #[test]
    fn what_an_operation_needs_its_clauses_need() {
        for clause in ALL.iter().filter(|clause| !clause.id.starts_with("identity.")) {
            if let Some(capability) = clause.operation.row().needs {
                assert!(clause.needs.contains(&capability), "{} needs {capability}", clause.id);
            }
        }
    }
}
