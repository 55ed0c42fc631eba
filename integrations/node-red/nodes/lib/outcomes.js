"use strict";

/** Outcomes after which a command has not been carried out and will not be. */
const NOT_DONE = ["refused", "offline", "expired", "invalid", "unavailable", "superseded", "not_sent"];

/** Outcomes after which it is unknown whether a command has been carried out. */
const UNCERTAIN = ["timeout", "lost", "no_answer"];

/** Return the outcome of a reply, or the worst one in the summary of a group: uncertain, not done, stored, done. */
function outcomeOf(reply) {
    if (typeof reply.outcome === "string") return reply.outcome;
    const present = Object.keys(reply.outcomes || {}).filter((outcome) => reply.outcomes[outcome] > 0);
    const order = [...UNCERTAIN, ...NOT_DONE, "accepted", "ok"];
    return order.find((outcome) => present.includes(outcome)) || "invalid";
}

/**
 * Return the output and the status of a reply to a press: done, not done and will not be, uncertain.
 *
 * `delivered` is false only if no byte of the press has left the bridge's machine.
 */
function classifyPress(reply) {
    const outcome = outcomeOf(reply);
    if (outcome === "ok") return [0, "done"];
    return UNCERTAIN.includes(outcome) && reply.delivered !== false ? [2, "uncertain"] : [1, "failed"];
}

/** Return the output and the status of a reply to a person command: done, stored and not yet done, failed. */
function classifyPerson(reply) {
    const outcome = outcomeOf(reply);
    if (outcome === "ok") return [0, "done"];
    if (outcome === "accepted") return [1, "stored"];
    return [2, outcome === "no_answer" ? "uncertain" : "failed"];
}

module.exports = { outcomeOf, classifyPress, classifyPerson };
