// What those say and do who have a WebSocket and nothing else, in Node.js and in a page alike: it is given the class.

/** A member by /ws/topics, which comes again behind the last message that it had. */
export function talk(WebSocket, url, name, topic, tell) {
  let position = null,
    isOver = false,
    socket;
  const waiting = [];
  const flush = () => {
    while (socket.readyState === 1 && waiting.length) socket.send(waiting.shift());
  };
  function open() {
    socket = new WebSocket(`${url}/ws/topics/${topic}?name=${name}&envelope=json&${position ? `after=${position}` : "from=start"}`);
    socket.onopen = flush;
    socket.onerror = () => {};
    socket.onclose = ({ code, reason }) => {
      if (isOver) return tell({ left: true });
      if (code >= 4000) tell({ broken: `${code} ${reason}` });
      setTimeout(open, 50);
    };
    socket.onmessage = ({ data }) => {
      const { start, epoch, offset, text, gap, base, refused } = JSON.parse(data);
      if (start) {
        position ??= `${start.epoch}:${start.next - 1}`;
        tell({ joined: true });
      } else if (refused) tell({ broken: refused.reason });
      else if (gap) {
        position = `${epoch}:${gap.to ?? base - 1}`;
        tell({ epoch, gap });
      } else if (offset !== undefined) {
        position = `${epoch}:${offset}`;
        tell({ epoch, offset, text });
      }
    };
  }
  open();
  return {
    say: (text) => (waiting.push(text), flush()),
    leave: () => ((isOver = true), socket.close(1000)),
  };
}
