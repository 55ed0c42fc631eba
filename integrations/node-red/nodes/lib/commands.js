"use strict";

const { randomBytes } = require("crypto");
const { BrokerUse } = require("./broker");
const { outcomeOf } = require("./outcomes");

/** So many messages are kept for later replies: a change to a terminal that is away can wait for months. */
const MAX_KEPT = 1000;

const NAME = /^[A-Za-z0-9_-]{1,64}$/;
const STATUS = {
    done: { fill: "green", shape: "dot" },
    stored: { fill: "yellow", shape: "dot" },
    failed: { fill: "red", shape: "dot" },
    uncertain: { fill: "red", shape: "ring" },
};

/**
 * Publishes commands, and sends their replies to the outputs of a node.
 *
 * The `request_id` begins with the node's id. So the node recognises its replies even after a restart of Node-RED, and
 * ignores those of other requesters. With MQTT 5, replies of a terminal are expected on a Response Topic of this node;
 * over MQTT 3.1.1, and for a group, whose members reply one by one, on the reply topics.
 */
class Commands {
    /**
     * @param RED - Node-RED's API
     * @param node - the node
     * @param config - its properties
     * @param kind - `topic`: the last part of the topic; `isPress`: whether the command is carried out at once or not at
     *     all, with one reply; `isDated`: whether it contains `asked_at`; `qos`; `payload`: an async function that makes
     *     the payload for a message; `classify`: returns the number of the output and the name of the status of a reply
     */
    constructor(RED, node, config, kind) {
        this._RED = RED;
        this._node = node;
        this._config = config;
        this._kind = kind;
        this._base = (config.baseTopic || "facebridge").replace(/\/+$/, "");
        this._prefix = `nr-${node.id}-`;
        this._kept = new Map();
        this._broker = new BrokerUse(RED, node, config.broker);
        this._responseTopic = null;
        const received = (_, reply) => this._replied(reply);
        if (this._broker.isMqtt5 && config.scope === "terminal") {
            this._responseTopic = `${this._base}-replies/${this._broker.user}/${node.id}`;
            this._broker.subscribe(this._responseTopic, received);
        } else {
            for (const from of ["terminal/+", "group/+", "bridge"]) {
                this._broker.subscribe(`${this._base}/${from}/reply`, received);
            }
        }
        node.on("input", (msg, send, done) => {
            this._request(msg, send).then(() => done(), done);
        });
        node.on("close", (done) => {
            for (const request of this._kept.values()) clearTimeout(request.timer);
            this._kept.clear();
            done();
        });
    }

    /** Return the value of a property that has a type, such as `target` and `targetType`, for a message. */
    evaluate(name, msg) {
        return new Promise((resolve, reject) => {
            const type = this._config[`${name}Type`];
            this._RED.util.evaluateNodeProperty(this._config[name], type, this._node, msg, (error, value) => {
                if (error) reject(error);
                else resolve(value);
            });
        });
    }

    async _request(msg, send) {
        // The press counts from here: the client or the network can hold it back.
        const askedAt = Date.now() / 1000;
        const target = await this.evaluate("target", msg);
        if (typeof target !== "string" || !NAME.test(target)) {
            throw new Error(this._RED._("facebridge.error.target"));
        }
        const requestId = this._prefix + randomBytes(8).toString("hex");
        const message = {
            topic: `${this._base}/${this._config.scope}/${target}/${this._kind.topic}`,
            payload: { ...(await this._kind.payload(msg)), request_id: requestId },
            qos: this._kind.qos,
            retain: false,
        };
        if (this._kind.isDated) message.payload.asked_at = askedAt;
        if (this._responseTopic !== null) {
            message.responseTopic = this._responseTopic;
            message.correlationData = Buffer.from(requestId);
        }
        // The broker drops a press that it could deliver only later.
        if (this._kind.isPress) message.messageExpiryInterval = 5;
        if (!this._broker.connected) {
            this._emit({ msg, send }, { request_id: requestId, outcome: "not_sent", delivered: false });
            return;
        }
        this._keep(requestId, msg, send);
        this._node.status({ fill: "blue", shape: "dot", text: this._RED._("facebridge.status.waiting", { target }) });
        try {
            await this._broker.publish(message);
        } catch (error) {
            // Some of it can have been sent: the reply, or its absence, is the outcome.
            this._node.warn(error);
        }
    }

    _keep(requestId, msg, send) {
        // The output replaces the payload, which can contain photos.
        const request = { msg: { ...msg, payload: null }, send };
        request.timer = setTimeout(() => {
            request.timer = null;
            if (this._kind.isPress) this._kept.delete(requestId);
            this._emit(request, { request_id: requestId, outcome: "no_answer", delivered: null });
        }, (Number(this._config.timeout) || 10) * 1000);
        this._kept.set(requestId, request);
        if (this._kept.size > MAX_KEPT) {
            const [oldest, { timer }] = this._kept.entries().next().value;
            clearTimeout(timer);
            this._kept.delete(oldest);
        }
    }

    _replied(reply) {
        if (reply === null || typeof reply !== "object" || typeof reply.request_id !== "string") return;
        if (!reply.request_id.startsWith(this._prefix)) return;
        const request = this._kept.get(reply.request_id);
        if (this._kind.isPress) {
            // The summary of a group says how its members ended. A repeated or late reply belongs to no message.
            if (request === undefined || (this._config.scope === "group" && !("group" in reply))) return;
            this._kept.delete(reply.request_id);
        }
        if (request !== undefined) clearTimeout(request.timer);
        this._emit(request || { msg: {}, send: (outputs) => this._node.send(outputs) }, reply);
    }

    _emit({ msg, send }, reply) {
        const outcome = outcomeOf(reply);
        const [output, status] = this._kind.classify(reply);
        const outputs = [null, null, null];
        outputs[output] = { ...this._RED.util.cloneMessage(msg), payload: reply, outcome };
        this._node.status({ ...STATUS[status], text: this._RED._(`facebridge.outcome.${outcome}`) });
        send(outputs);
    }
}

module.exports = { Commands, NAME };
