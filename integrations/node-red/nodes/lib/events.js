"use strict";

const { BrokerUse } = require("./broker");
const { NAME } = require("./commands");

const COLORS = { online: "green", offline: "red" };

/** Sends what the bridge publishes to the outputs of a node: availability, state, replies, events of the bridge. */
class Events {
    /**
     * @param RED - Node-RED's API
     * @param node - the node
     * @param config - its properties; an empty `target` means all terminals
     */
    constructor(RED, node, config) {
        this._RED = RED;
        this._node = node;
        this._base = (config.baseTopic || "facebridge").replace(/\/+$/, "");
        this._broker = new BrokerUse(RED, node, config.broker);
        RED.util.evaluateNodeProperty(config.target || "", config.targetType || "str", node, {}, (error, value) => {
            if (error) node.error(error);
            else if (value && !NAME.test(value)) node.error(RED._("facebridge.error.target"));
            else this._subscribe(value || null);
        });
    }

    _subscribe(only) {
        const terminal = `${this._base}/terminal/${only || "+"}`;
        const snOf = (topic) => topic.slice(this._base.length + 1).split("/")[1];
        this._broker.subscribe(`${terminal}/availability`, (topic, payload, packet) => {
            this._available(topic, payload, packet, snOf(topic));
        });
        this._broker.subscribe(`${this._base}/bridge/availability`, (topic, payload, packet) => {
            this._available(topic, payload, packet, null);
        });
        this._broker.subscribe(`${terminal}/state`, (topic, payload, packet) => {
            if (payload !== "") this._emit(1, { topic, payload, sn: snOf(topic), retain: packet.retain });
        });
        this._broker.subscribe(`${terminal}/reply`, (topic, payload) => {
            this._emit(2, { topic, payload, sn: snOf(topic), outcome: payload.outcome });
        });
        this._broker.subscribe(`${this._base}/bridge/event`, (topic, payload) => {
            if (only === null || payload.sn === only) this._emit(3, { topic, payload, sn: payload.sn });
        });
    }

    _available(topic, payload, packet, sn) {
        // An empty payload clears the topic of a terminal that was forgotten.
        if (!(payload in COLORS)) return;
        const text = this._RED._(`facebridge.status.${payload}`);
        this._node.status({ fill: COLORS[payload], shape: "dot", text: `${sn || "Facebridge"}: ${text}` });
        this._emit(0, { topic, payload, sn, retain: packet.retain });
    }

    _emit(output, msg) {
        const outputs = [null, null, null, null];
        outputs[output] = msg;
        this._node.send(outputs);
    }
}

module.exports = { Events };
