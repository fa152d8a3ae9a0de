// Rooms: people in a topic. A room has a connection of its own, so that its line can be cut while the page goes on.
import { t, tt } from "./i18n.js";
import { dial, line } from "./line.js";
import { lagBar, lifetime, member, said, shown, watch } from "./tables.js";
import { add, clock, dot, fill, h, head, num, pairs, put, refused, say, span, toggle, waiting } from "./ui.js";

const ROWS = 400,
  MEMBERS = 100;
const CUT = 5000,
  SLOW = 1700;
// Who is further behind than this is too slow, where a choice lets go of messages.
const MAX_LAG = 10;
// In larger rooms it is not told who comes and goes.
const TOLD = 20;
const CHOICES = {
  gap: "Everything waits in the log. What the topic lets go of meanwhile is told as a gap.",
  latest: "More than {n} behind, reading goes on with the newest, and the gap is told.",
  conflate: "Only the newest waits; behind it stands how many were skipped.",
  close: "More than {n} behind, reading ends.",
};

/** WebSockets that can be cut: the open one closes, and none opens until that is over. */
function wire() {
  let until = 0,
    socket = null;
  function Wire(url, protocols) {
    if (performance.now() >= until) return (socket = new WebSocket(url, protocols));
    const dead = Object.assign(new EventTarget(), { readyState: 3, bufferedAmount: 0, close() {}, send() {} });
    setTimeout(() => {
      const event = new CloseEvent("close", { code: 1006 });
      dead.onclose?.(event);
      dead.dispatchEvent(event);
    });
    return dead;
  }
  return {
    Wire,
    left: () => Math.max(0, until - performance.now()),
    cut() {
      until = performance.now() + CUT;
      socket?.close();
    },
  };
}

export default function rooms(main, [wanted]) {
  const life = lifetime(),
    own = wire();
  const room = wanted || localStorage.getItem("room") || "lobby";
  let me = line.subject || localStorage.getItem("name") || `guest-${Math.random().toString(36).slice(2, 5)}`;
  localStorage.setItem("room", room);
  /** Which loop reads; where it is; what the topic keeps. */
  let run = 0,
    dialing = null,
    peer = null,
    topic = null,
    joined = null,
    position = null,
    newest = 0,
    oldest = 1;
  let isSlow = false,
    lag = "gap";
  const leaving = new AbortController();
  // Who is not authenticated gets a "~" before the name, where others are.
  const isMe = (name) => name === me || name === `~${me}`;
  /** While the line is lost, and until all is here that was written meanwhile. */
  let loss = null;

  // The log
  const list = h("div.log", { role: "log", "aria-live": "off", "aria-label": t("Messages"), tabindex: 0 });
  let follows = true,
    isMoving = false,
    top = 0;
  list.addEventListener("scroll", () => {
    // Who scrolls up reads; what has grown meanwhile is no sign of that.
    if (list.scrollTop + list.clientHeight > list.scrollHeight - 40) follows = true;
    else if (list.scrollTop < top) follows = false;
    top = list.scrollTop;
  });
  function bottom() {
    if (!follows || isMoving) return;
    isMoving = true;
    requestAnimationFrame(() => {
      isMoving = false;
      list.scrollTop = list.scrollHeight;
    });
  }
  const here = () => position?.after ?? 0;
  /** Puts a row where its offset belongs; those that have none yet stay at the end. */
  function place(row, at = "") {
    row.dataset.at = at;
    let before = null;
    for (
      let other = list.lastElementChild;
      at !== "" && other && (other === row || other.dataset.at === "" || +other.dataset.at > at);
      other = other.previousElementSibling
    ) {
      if (other !== row) before = other;
    }
    list.insertBefore(row, before);
    while (list.childElementCount > ROWS) list.firstElementChild.remove();
    bottom();
    return row;
  }
  const note = (text) => place(h("p.note", text), here());
  function message({ time, from, text, offset, skipped }) {
    const row = h(
      "article.msg",
      h(
        "time",
        { datetime: new Date(time).toISOString(), title: new Date(time).toLocaleString() },
        clock(time).slice(0, 5),
      ),
      h("b", { title: from ?? null }, h("bdi", from ?? "–")),
      h("p", { dir: "auto" }, text, skipped > 0 && h("em", ` ${t("{n} skipped", { n: num(skipped) })}`)),
      h("span.off", { title: t("offset") }, offset ?? "…"),
    );
    row.classList.toggle("own", isMe(from));
    return row;
  }
  function gap({ epoch, base, gap: { from, to, epoch: old } }) {
    if (to == null) {
      for (const row of list.children) if (row.dataset.at) row.dataset.at = 0;
      position = { epoch, after: base - 1 };
      newest = here();
      const title = t("The log began anew (epoch {e}…); what was before cannot be continued.", {
        e: epoch.slice(0, 4),
      });
      place(
        h(
          "div.gap",
          { role: "note" },
          h("p", title),
          h("p", t("What stands above is of epoch {e}…", { e: String(old).slice(0, 4) })),
        ),
        here(),
      );
      return say(title);
    }
    const n = to - from + 1,
      title = n === 1 ? t("One message is missing here.") : t("{n} messages are missing here.", { n: num(n) });
    position = { epoch, after: to };
    if (loss) loss.missing += n;
    const why = loss
      ? t("While the line was lost, the topic let go of them.")
      : isSlow && lag === "latest"
        ? t("You were more than {n} behind, and reading went on with the newest.", { n: MAX_LAG })
        : isSlow
          ? t("You read so slowly that the topic let go of them.")
          : t("The topic let go of them before you came.");
    place(
      h("div.gap", { role: "note" }, h("p", title), h("p", why), h("span.off", n === 1 ? from : `${from}–${to}`)),
      to,
    );
    say(title);
  }
  function take(m) {
    if (m.gap) gap(m);
    else if (m.offset != null) {
      position = { epoch: m.epoch, after: m.offset };
      const text = shown(m.data);
      // One of ours stands there already, if its acknowledgement came first.
      const row = (isMe(m.from) && list.querySelector(`.msg[data-at="${m.offset}"]`)) || message({ ...m, text });
      row.classList.toggle("late", Boolean(loss?.isBack && m.offset <= loss.until));
      if (loss?.isBack && m.offset <= loss.until) loss.came += 1;
      place(row, m.offset);
      if (!isMe(m.from)) say(`${m.from ?? ""}: ${text.slice(0, 200)}`);
    }
    // Of the moment: it is kept nowhere and has no place.
    else if (m.data.length)
      place(message({ ...m, offset: "·", time: m.time ?? Date.now(), text: shown(m.data) }), here());
    newest = Math.max(newest, here());
    figures();
    settle();
  }

  // Where the reading is
  const status = h("span"),
    at = h("span.m"),
    behind = h("span");
  let isDrawing = false;
  /** Once for each frame of the display, however much comes. */
  function figures() {
    if (isDrawing) return;
    isDrawing = true;
    requestAnimationFrame(() => {
      isDrawing = false;
      put(at, position ? `${position.epoch.slice(0, 4)}:${position.after}` : "–");
      at.title = position ? `${position.epoch}:${position.after}` : "";
      fill(behind, lagBar(Math.max(0, newest - here()), { base: oldest, head: newest }));
    });
  }
  /** What the topic has, asked over the page's own connection. */
  async function look() {
    const page = (await line.peer.request(`history.${room}`, { limit: 1 })).json();
    [newest, oldest] = [page.head, page.base];
    figures();
    return page;
  }
  life.every(1000, () => isSlow && look().catch(() => {}));

  // The line
  const cutting = h("button", { onclick: () => (own.cut(), lost()) }, t("Cut the line"));
  function lost() {
    if (loss && !loss.isBack) return;
    loss = { isCut: own.left() > 0, since: performance.now(), came: 0, missing: 0, until: Infinity, note: note("") };
    cutting.disabled = true;
    wait();
  }
  function wait() {
    if (leaving.signal.aborted || !loss || loss.isBack) return;
    const n = Math.ceil(own.left() / 1000);
    fill(status, dot("off", n ? t("Cut") : t("Lost")));
    put(
      loss.note,
      n
        ? t("The line is cut. Back in {n} s; your position is kept.", { n })
        : loss.isCut
          ? t("Coming back; your position is kept.")
          : t("The line is lost; your position is kept."),
    );
    setTimeout(wait, 250);
  }
  async function back() {
    const mine = loss;
    cutting.disabled = false;
    fill(status, dot("", t("Joined")));
    if (!mine || mine.isBack) return;
    mine.isBack = true;
    mine.time = span((performance.now() - mine.since) / 1000);
    const page = await look().catch(() => null);
    mine.isAnew = page?.epoch !== position?.epoch;
    mine.until = mine.isAnew ? 0 : page.head;
    mine.isKnown = true;
    const late = [...list.querySelectorAll(".late")].filter((row) => +row.dataset.at > mine.until);
    for (const row of late) row.classList.remove("late");
    mine.came -= late.length;
    settle();
  }
  /** Says what the loss came to, once everything that was written meanwhile is here. */
  function settle() {
    if (!loss?.isKnown || here() < loss.until) return;
    const { came, missing, time } = loss,
      values = { time, n: num(came), m: num(missing) };
    let text = t("Back after {time}. Nobody wrote meanwhile.", values);
    if (missing) text = t("Back after {time}: {n} came after, {m} are missing.", values);
    else if (came) text = t("Back after {time}. Nothing is missing: {n} came after.", values);
    else if (loss.isAnew) text = t("Back after {time}.", values);
    put(loss.note, text);
    say(text);
    loss = null;
  }

  // Reading and writing
  const field = h("input.field", {
    type: "text",
    placeholder: t("Write to {room}", { room }),
    "aria-label": t("Message"),
    autocomplete: "off",
    enterkeyhint: "send",
  });
  const form = h(
    "form.say",
    {
      onsubmit(e) {
        e.preventDefault();
        if (!field.value || !topic) return;
        send(field.value);
        field.value = "";
      },
    },
    field,
    h("button.go", { type: "submit" }, t("Send")),
  );
  form.lastElementChild.type = "submit";
  const chat = h("section.chat", list, form),
    place_ = h("div.talk", waiting());

  /** The position is known before the first message. */
  function begin(text) {
    if (position || !text) return;
    const [epoch, after] = text.split(":");
    position = { epoch, after: Number(after) };
    figures();
  }
  const connect = () =>
    dial({
      resume: true,
      reconnect: { first: 100, longest: 1000 },
      WebSocket: own.Wire,
      signal: leaving.signal,
      onstate(state) {
        if (!peer || leaving.signal.aborted) return;
        if (state === "connected") back();
        else lost();
        // It does not come back by itself: who joins again has another.
        if (state === "closed") peer = dialing = topic = null;
      },
    });
  async function read() {
    const mine = ++run,
      options = !isSlow ? {} : lag === "latest" || lag === "close" ? { lag, maxLag: MAX_LAG } : { lag };
    joined?.leave();
    joined = null;
    try {
      peer = await (dialing ??= connect());
      if (mine !== run) return;
      topic ??= peer.topic(room);
      const from = position ? { after: position } : { from: { last: 50 } };
      const stream = await topic.join({ name: me, ...from, window: isSlow ? 1 : 32, ...options });
      if (mine !== run) return stream.leave();
      joined = stream;
      for (const end of list.querySelectorAll(".end")) end.remove();
      begin(stream.position);
      fill(place_, chat);
      fill(status, dot("", t("Joined")));
      look().then(
        ({ head }) =>
          head ||
          list.firstChild ||
          note(
            t("Nobody has written here yet. Your position is {at}, so nothing that comes can be missed.", {
              at: `${position.epoch.slice(0, 4)}:${position.after}`,
            }),
          ),
        () => {},
      );
      for await (const m of stream) {
        if (mine !== run) return;
        take(m);
        if (isSlow) await new Promise((done) => setTimeout(done, SLOW));
        if (mine !== run) return;
      }
      throw new Error(t("The topic is closed: no more will come."));
    } catch (e) {
      if (mine !== run) return;
      joined = null;
      if (!peer) dialing = null;
      fill(status, dot("off", t("Not joined")));
      if (!position) return fill(place_, refused(t("You may not join."), said(e), read));
      const end = h(
        "div.gap.end",
        { role: "alert" },
        h("p", t("You are not in the room any more.")),
        h("p", h("code", said(e))),
        h("button", { onclick: read }, t("Join again")),
      );
      place(end, here());
    }
  }
  async function send(text) {
    const row = place(message({ from: me, text, time: Date.now() })),
      last = row.lastElementChild;
    follows = true;
    bottom();
    try {
      const { offset } = await topic.publish(text, { from: me });
      if (offset == null) return row.remove();
      if (list.querySelector(`.msg[data-at="${offset}"]`)) return row.remove();
      put(last, String(offset));
      place(row, offset);
    } catch (e) {
      put(last, "–");
      add(row.children[2], h("em.badt", ` ${t("not published:")} ${said(e)}`));
    }
  }

  // Somebody who counts, over the page's own connection: what is missing is seen at a glance.
  let counted = 0,
    counts = 0;
  async function count() {
    try {
      await line.peer.topic(room).publish(num(++counted), line.subject ? {} : { from: "counter" });
    } catch (e) {
      stopCounting();
      note(`${t("not published:")} ${said(e)}`);
    }
  }
  function stopCounting() {
    clearInterval(counts);
    counter.querySelector("input").checked = false;
  }
  const counter = toggle(t("Have somebody count"), (on) => (on ? (counts = setInterval(count, 500)) : stopCounting()));

  // What is beside it
  const title = h("h2", t("Here")),
    members = h("ul");
  let people = 0;
  watch(life, room, {
    people(all) {
      people = all.length;
      put(title, `${t("Here")} · ${num(people)}`);
      const order = (p) => (isMe(p.name) ? 0 : 1);
      fill(
        members,
        all
          .sort((a, b) => order(a) - order(b) || (a.name > b.name) - (a.name < b.name))
          .slice(0, MEMBERS)
          .map((p) => member(p, isMe(p.name))),
        people > MEMBERS && h("li.q", t("and {n} more", { n: num(people - MEMBERS) })),
      );
    },
    changed(event, name) {
      const text = { join: t("{name} is here", { name }), leave: t("{name} has left", { name }) }[event];
      if (text && !isMe(name) && people <= TOLD) note(text);
    },
    refused: () => put(title, t("Who is here may not be seen")),
  });
  const choice = h(
    "select.in",
    { "aria-label": t("If you fall behind"), onchange: () => ((lag = choice.value), explain(), isSlow && read()) },
    Object.keys(CHOICES).map((name) => h("option", { value: name }, name)),
  );
  const about = h("p.q.small"),
    lags = h("div.lags", { hidden: true }, h("label.q", t("If you fall behind"), choice), about);
  const explain = () => put(about, t(CHOICES[lag], { n: MAX_LAG }));
  explain();
  const slowly = toggle(t("Read slowly"), (on) => {
    isSlow = on;
    lags.hidden = !on;
    read();
  });
  const rail = h(
    "aside.rail",
    h("section.mem", title, members),
    h(
      "section",
      h("h2", t("Your reading")),
      pairs([
        [t("Line"), status],
        [t("Position"), at],
        [t("Behind"), behind],
      ]),
    ),
    h(
      "section.try",
      h("h2", t("Try it")),
      h("div.fold", cutting, slowly, counter),
      lags,
      h(
        "p.q.small.w2",
        t(
          "Cutting closes this room’s socket for 5 s. What is written meanwhile comes after, or the gap is told. Reading slowly takes one message every 1.7 s.",
        ),
      ),
    ),
  );

  // Which room, and who
  const names = h("datalist", { id: "names" });
  const choose = h("input.field", {
    type: "text",
    value: room,
    list: "names",
    "aria-label": t("Room"),
    spellcheck: "false",
    onchange: () => choose.value.trim() && (location.hash = `#/rooms/${encodeURIComponent(choose.value.trim())}`),
  });
  const called = h("input.field", {
    type: "text",
    value: me,
    "aria-label": t("Name"),
    maxlength: 64,
    autocomplete: "nickname",
    spellcheck: "false",
    onchange() {
      me = called.value.trim() || me;
      called.value = me;
      localStorage.setItem("name", me);
      put(who, me);
      read();
    },
  });
  const who = h("bdi", me),
    naming = h("label", h("span.q", t("Name")), called);
  fill(
    main,
    head(
      h("bdi", room),
      h("span", tt("{topic} as {name}", { topic: h("code", `topic.${room}`), name: who })),
      h("label", h("span.q", t("Room")), choose, names),
      naming,
    ),
    h("div.room", place_, rail),
  );
  figures();
  life.connected(async () => {
    // Whom the service knows has the name that it knows.
    if (line.subject) put(who, (me = line.subject));
    naming.hidden = Boolean(line.subject);
    if (!dialing) read();
    const page = await line.peer.request("topics", { prefix: "" }).catch(() => null);
    fill(
      names,
      page?.json().topics.map((x) => h("option", { value: x.topic })),
    );
  });
  // Who closes the page has left, and is not waited for.
  const gone = () => peer?.close();
  addEventListener("pagehide", gone);
  life.also(() => {
    removeEventListener("pagehide", gone);
    leaving.abort(new Error("left"));
    run += 1;
    clearInterval(counts);
    joined?.leave();
    peer?.close();
  });
  return life.end;
}
