// One request with a JSON body; what is refused is thrown with the server's sentence.
export async function ask(url, body) {
  let response;
  try {
    response = await fetch(url, {
      method: body === undefined ? "GET" : "POST",
      headers: body === undefined ? {} : { "Content-Type": "application/json" },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch {
    throw new Error("The server does not answer. Nothing was stored; try again.");
  }
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(answer.detail ?? `The server answered ${response.status}.`);
  return answer;
}

export const byId = (id) => document.getElementById(id);

// Run, and show what was refused where the page has a place for it.
export async function attempt(action) {
  byId("refusal").textContent = "";
  try {
    await action();
    return true;
  } catch (error) {
    byId("refusal").textContent = error.message;
    return false;
  }
}
