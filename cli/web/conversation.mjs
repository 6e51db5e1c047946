// A conversation as a tree: what was asked, what was answered, and where it forked. Pure.
//
// A node is a turn. Answers to one question are siblings, whether they were drawn anew or forked
// off at a token; tokens that two answers begin with alike are the very same objects.

/**
 * @typedef {object} Alternative
 * @property {number} id
 * @property {string} text
 * @property {number} logprob natural, under the model
 *
 * @typedef {object} Token
 * @property {number} id
 * @property {string} text the text that became certain with it, possibly none
 * @property {number} logprob
 * @property {Alternative[]} top best first
 * @property {object} sampling what it was drawn with
 * @property {boolean} [isChosen] by a person
 *
 * @typedef {object} Node
 * @property {number} id
 * @property {"root"|"user"|"answer"} role
 * @property {Node|null} parent
 * @property {Node[]} children in the order of their making
 * @property {Node|null} latest the child that was looked at last
 */

export class Conversation {
  #nextId = 1;

  constructor() {
    this.root = this.#node("root", null);
  }

  /**
   * @param {Node} parent
   * @param {string} text
   * @returns {Node} a question
   */
  addUser(parent, text) {
    return Object.assign(this.#node("user", parent), { text });
  }

  /**
   * @param {Node} parent
   * @param {Token[]} [tokens] what it begins with
   * @returns {Node} an answer that is still to be made
   */
  addAnswer(parent, tokens = []) {
    return Object.assign(this.#node("answer", parent), {
      tokens: [...tokens],
      tail: "",
      prompt: null,
      fork: null,
      state: "waiting",
      finish: null,
      error: null,
      usage: null,
      seed: null,
      times: { sent: 0, first: 0, last: 0, nNew: 0 },
    });
  }

  /**
   * Another answer that agrees with `answer` before the token `at` and has `alternative` there.
   *
   * @param {Node} answer
   * @param {number} at
   * @param {Alternative} alternative
   * @returns {Node}
   */
  fork(answer, at, alternative) {
    const old = answer.tokens[at];
    const chosen = {
      ...old,
      id: alternative.id,
      text: alternative.text,
      logprob: alternative.logprob,
      isChosen: true,
    };
    const made = this.addAnswer(answer.parent, [...answer.tokens.slice(0, at), chosen]);
    made.fork = { of: answer, at };
    made.prompt = answer.prompt;
    return made;
  }

  #node(role, parent) {
    const node = { id: this.#nextId, role, parent, children: [], latest: null };
    this.#nextId += 1;
    if (parent) {
      parent.children.push(node);
      parent.latest = node;
    }
    return node;
  }
}

/** @returns {Node[]} the turns from the first to `node` */
export function pathTo(node) {
  const path = [];
  for (let at = node; at && at.role !== "root"; at = at.parent) path.unshift(at);
  return path;
}

/** @returns {Node} the end of the branch through `node` that was looked at last */
export function leafBelow(node) {
  let leaf = node;
  while (leaf.latest) leaf = leaf.latest;
  return leaf;
}

/** Remembers that this branch was looked at last. */
export function visit(leaf) {
  for (let at = leaf; at.parent; at = at.parent) at.parent.latest = at;
}

/** @returns {Node[]} the ends of all branches */
export function leaves(node) {
  return node.children.length === 0 ? [node] : node.children.flatMap(leaves);
}

/** @returns {number} how many turns two paths have in common */
export function commonTurns(one, other) {
  let n = 0;
  while (n < one.length && n < other.length && one[n] === other[n]) n += 1;
  return n;
}

/** @returns {number} how many tokens two answers begin with alike */
export function commonTokens(one, other) {
  const differs = one.tokens.findIndex((token, i) => token.id !== other.tokens[i]?.id);
  return differs < 0 ? one.tokens.length : differs;
}

/** @returns {string} what a turn says */
export function textOf(node) {
  if (node.role === "user") return node.text;
  return node.tokens.map((token) => token.text).join("") + node.tail;
}

/** @returns {number[]} everything the model has seen when `answer` ends */
export function idsOf(answer) {
  return [...answer.prompt.ids, ...answer.tokens.map((token) => token.id)];
}

/**
 * The branches in reading order, with how often the way to each turn has forked.
 *
 * @param {Node} root
 * @returns {{node: Node, depth: number}[]}
 */
export function outline(root) {
  const rows = [];
  const walk = (node, depth) => {
    const forks = node.children.length > 1;
    for (const child of node.children) {
      const below = forks ? depth + 1 : depth;
      rows.push({ node: child, depth: below });
      walk(child, below);
    }
  };
  walk(root, 0);
  return rows;
}
