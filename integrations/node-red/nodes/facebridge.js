"use strict";

const { Commands } = require("./lib/commands");
const { Events } = require("./lib/events");
const { classifyPerson, classifyPress } = require("./lib/outcomes");
const { TOPICS, personPayload } = require("./lib/persons");

module.exports = function (RED) {
    function FacebridgeOpen(config) {
        RED.nodes.createNode(this, config);
        new Commands(RED, this, config, {
            topic: `${config.command === "reboot" ? "reboot" : "open"}/set`,
            isPress: true,
            isDated: true,
            // The client would send a press with QoS 1 again after an outage.
            qos: 0,
            payload: async () => ({}),
            classify: classifyPress,
        });
    }

    function FacebridgePerson(config) {
        RED.nodes.createNode(this, config);
        const commands = new Commands(RED, this, config, {
            topic: TOPICS[config.action],
            isPress: false,
            // A question has no effect that must not be repeated.
            isDated: config.action !== "get",
            // Only with QoS 1 does the broker keep a change while the bridge is away.
            qos: config.action === "get" ? 0 : 1,
            payload: async (msg) => {
                const payload = personPayload(config.action, await commands.evaluate("person", msg));
                if (payload === null) throw new Error(RED._("facebridge.error.person"));
                return payload;
            },
            classify: classifyPerson,
        });
    }

    function FacebridgeEvents(config) {
        RED.nodes.createNode(this, config);
        new Events(RED, this, config);
    }

    RED.nodes.registerType("facebridge-open", FacebridgeOpen);
    RED.nodes.registerType("facebridge-person", FacebridgePerson);
    RED.nodes.registerType("facebridge-events", FacebridgeEvents);
};
