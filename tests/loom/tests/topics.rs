//! Runs the models of a topic.

#[macro_use]
mod common;

models! {
    sound_topics of topic,
    sound:
        readers_see_what_is_published
        one_pumps_for_both
        one_waits_for_both
        both_connections_are_woken;
    broken:
        does_not_look_again by readers_see_what_is_published,
        waits_too_late by readers_see_what_is_published,
        pumps_end_without_looking by one_pumps_for_both,
        looks_before_it_tells by readers_see_what_is_published,
        pumps_forget_who_came by both_connections_are_woken,
        tells_without_a_version by readers_see_what_is_published,
}

#[test]
fn broken_copies_are_found() {
    common::are_found(BROKEN);
}
