"use strict";

/**
 * A node's use of a broker node of Node-RED (`mqtt-broker`), which the core nodes "mqtt in" and "mqtt out" use too.
 *
 * The broker node shows its connection in the status of each registered node.
 */
class BrokerUse {
    /**
     * @param RED - Node-RED's API
     * @param node - the node that uses the broker
     * @param id - the id of the broker node
     */
    constructor(RED, node, id) {
        this._node = node;
        this._broker = RED.nodes.getNode(id);
        this._topics = [];
        if (!this._broker || typeof this._broker.subscribe !== "function") {
            this._broker = null;
            node.status({ fill: "red", shape: "ring", text: RED._("facebridge.status.noBroker") });
            node.error(RED._("facebridge.error.noBroker"));
            return;
        }
        this._broker.register(node);
        node.on("close", (removed, done) => {
            for (const topic of this._topics) this._broker.unsubscribe(topic, node.id, removed);
            this._broker.deregister(node, done, removed);
        });
    }

    get connected() {
        return this._broker !== null && this._broker.connected;
    }

    /** Whether the connection uses MQTT 5. */
    get isMqtt5() {
        return this._broker !== null && Number(this._broker.options.protocolVersion) === 5;
    }

    /** The name of the broker's user, or a name for a broker without users. */
    get user() {
        return (this._broker && this._broker.username) || "node-red";
    }

    /** Call `received(topic, value, packet)` for each message; its payload must be JSON or a plain text. */
    subscribe(topic, received) {
        if (this._broker === null) return;
        this._topics.push(topic);
        const options = { qos: 1, rap: true };
        this._broker.subscribe(topic, options, (from, payload, packet) => received(from, parsed(payload), packet), this._node.id);
    }

    /** Publish; return a promise that is rejected if the client reports an error. */
    publish(message) {
        return new Promise((resolve, reject) => {
            this._broker.publish(message, (error) => (error ? reject(error) : resolve()));
        });
    }
}

function parsed(payload) {
    const text = payload.toString();
    try {
        return JSON.parse(text);
    } catch {
        return text;
    }
}

module.exports = { BrokerUse };
