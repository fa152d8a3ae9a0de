//! Runs the models of a connection.

#[macro_use]
mod common;

models! {
    sound of connection,
    sound:
        commands_wake_the_driver
        ready_producers_wake_the_driver
        adoptions_wake_the_driver
        paused_drivers_go_on
        who_waits_in_line_is_called
        commands_meet_the_end
        adoptions_meet_the_end
        waiting_requests_learn_the_reason
        items_in_order
        last_items_end
        replies_wake
        consumers_go
        grants_add_up
        demands_meet_the_opening
        demand_is_told
        producers_are_polled_again
        feeds_that_wait_together_are_woken
        others_in_a_group_are_woken
        tokens_are_held_by_one
        room_is_made_or_not
        sessions_end_while_found;
    broken:
        sleeps_on_commands by commands_wake_the_driver,
        sleeps_on_ready by ready_producers_wake_the_driver,
        sleeps_on_adoption by adoptions_wake_the_driver,
        sleeps_in_two_steps by commands_wake_the_driver,
        looks_before_it_releases by paused_drivers_go_on,
        sleeps_on_nudges by paused_drivers_go_on,
        waits_awake by who_waits_in_line_is_called,
        stays_awake by commands_wake_the_driver,
        sends_unchecked by commands_meet_the_end,
        adopts_unchecked by adoptions_meet_the_end,
        closes_permits_first by waiting_requests_learn_the_reason,
        registers_too_late by items_in_order,
        replies_register_too_late by replies_wake,
        ends_in_two_steps by last_items_end,
        unlists_too_late by grants_add_up,
        stays_listed by grants_add_up,
        grants_again by grants_add_up,
        demands_in_two_steps by grants_add_up,
        loses_early_credit by demands_meet_the_opening,
        opens_in_two_steps by demands_meet_the_opening,
        demands_too_late by demand_is_told,
        unlists_without_looking by producers_are_polled_again,
        groups_unlist_without_looking by feeds_that_wait_together_are_woken,
        groups_are_not_told by feeds_that_wait_together_are_woken,
        groups_forget_other_wakers by others_in_a_group_are_woken,
        claims_in_two_steps by tokens_are_held_by_one,
}

#[test]
fn broken_copies_are_found() {
    common::are_found(BROKEN);
}
