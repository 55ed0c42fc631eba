"use strict";

/** The last part of the topic of each action. */
const TOPICS = { set: "person/set", remove: "person/remove", get: "person/get", sync: "person/sync" };

const isRecord = (value) => value !== null && typeof value === "object" && !Array.isArray(value);
const isEmpty = (value) => value === undefined || value === null || value === "";

/**
 * Return the payload of a person command.
 *
 * The result is always an object, so that `request_id` and `asked_at` can be added.
 *
 * @param action - a key of `TOPICS`
 * @param value - set: a person, or a list; remove: an id, a list of ids, or an object with `id`, `ids` or `all`;
 *     get: an id, or nothing for everyone; sync: an object with `clear` and `confirm`, or anything else
 * @returns null if the action needs another value
 */
function personPayload(action, value) {
    switch (action) {
        case "set":
            if (Array.isArray(value)) return { persons: value };
            if (!isRecord(value)) return null;
            return Array.isArray(value.persons) ? { persons: value.persons } : { persons: [value] };
        case "remove":
            if (Array.isArray(value)) return { ids: value.map(String) };
            if (isRecord(value)) {
                if ("all" in value) return { all: value.all, confirm: value.confirm };
                if ("ids" in value) return { ids: value.ids };
                return isEmpty(value.id) ? null : { id: String(value.id) };
            }
            return isEmpty(value) ? null : { id: String(value) };
        case "get": {
            const id = isRecord(value) ? value.id : value;
            return isEmpty(id) ? {} : { id: String(id) };
        }
        default:
            return isRecord(value) && value.clear ? { clear: value.clear, confirm: value.confirm } : {};
    }
}

module.exports = { TOPICS, personPayload };
