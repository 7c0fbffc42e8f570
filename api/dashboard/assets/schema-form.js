// A form made from a JSON Schema. What it cannot draw it takes as JSON.

import { h, show } from './dom.js';

const REAL = { string: 'text', integer: 'number', number: 'number' };

/** What a schema comes to: `$ref` followed, "or null" taken away, and a constant as a choice of one. */
export function plain(schema, root) {
  let found = schema ?? {};
  while (found.$ref) found = { ...found.$ref.replace('#/', '').split('/').reduce((at, key) => at?.[key], root), ...found, $ref: undefined };
  const real = (found.anyOf ?? []).filter((each) => each.type !== 'null');
  if (found.anyOf && real.length === 1) return { ...plain(real[0], root), ...found, anyOf: undefined, nullable: true };
  return 'const' in found ? { ...found, enum: [found.const] } : found;
}

// There may be several forms on a page, and fields of one name in each.
let made = 0;

/**
 * A field for a value. `element` is to be shown; `read` returns the value, undefined if it is left
 * out, and throws an `Error` that says what is wrong; `refuse` shows what the server says of it.
 */
function field(name, schema, root, required) {
  const found = plain(schema, root);
  const id = `field-${++made}`;
  const input = control(found, id, required);
  const wrong = h('p', { class: 'refused', id: `${id}-wrong`, hidden: true });
  const hint = found.description && h('p', { class: 'hint' }, found.description);
  input.element.setAttribute('aria-describedby', wrong.id);
  const title = h('label', { for: id }, name, required ? '' : h('span', { class: 'hint' }, ' optional'));
  return {
    name,
    element: h('div', { class: `field ${input.kind ?? ''}` }, title, input.element, hint, wrong),
    read: input.read,
    refuse(says) {
      wrong.textContent = says ?? '';
      show(wrong, Boolean(says));
      input.element.toggleAttribute('aria-invalid', Boolean(says));
    },
  };
}

function control(schema, id, required) {
  // What must be given and may be null is null if nothing is given.
  if (required && schema.nullable) {
    const { read, ...input } = control(schema, id, false);
    return { ...input, read: () => read() ?? null };
  }
  if (schema.enum) return select(schema, id, required);
  if (schema.type === 'boolean') return required ? yesOrNo(schema, id) : select({ ...schema, enum: [true, false] }, id, false);
  if (REAL[schema.type]) return line(schema, id, required);
  if (schema.type === 'array' && REAL[schema.items?.type]) return lines(schema, id, required);
  return json(schema, id, required);
}

function select(schema, id, required) {
  const element = h('select', { id }, !required && h('option', { value: '' }, usual(schema)), schema.enum.map((value, n) => h('option', { value: n }, said(value))));
  return { element, read: () => (element.value === '' ? undefined : schema.enum[Number(element.value)]) };
}

function yesOrNo(schema, id) {
  const element = h('input', { id, type: 'checkbox', checked: schema.default === true });
  return { element, kind: 'check', read: () => element.checked };
}

function line(schema, id, required) {
  const number = schema.type !== 'string';
  const element = h('input', {
    id, type: REAL[schema.type], required, placeholder: usual(schema), autocomplete: 'off', spellcheck: 'false',
    step: schema.type === 'integer' ? 1 : number ? 'any' : null, min: schema.minimum, max: schema.maximum, maxlength: schema.maxLength,
  });
  const read = () => {
    if (!element.checkValidity()) throw new Error(element.validationMessage);
    if (element.value === '') return required && !number ? '' : undefined;
    return number ? Number(element.value) : element.value;
  };
  return { element, read };
}

function lines(schema, id, required) {
  const element = h('textarea', { id, rows: 3, required, placeholder: `${usual(schema)} (one on each line)`.trim(), spellcheck: 'false' });
  const of = (word) => {
    if (schema.items.type === 'string') return word;
    if (Number.isNaN(Number(word))) throw new Error(`${word} is no number`);
    return Number(word);
  };
  return { element, read: () => (element.value.trim() === '' && !required ? undefined : element.value.split('\n').map((each) => each.trim()).filter(Boolean).map(of)) };
}

function json(schema, id, required) {
  const element = h('textarea', { id, rows: 4, class: 'code', required, placeholder: usual(schema) || 'JSON', spellcheck: 'false' });
  const read = () => {
    if (element.value.trim() === '' && !required) return undefined;
    try {
      return JSON.parse(element.value);
    } catch (error) {
      throw new Error(`This is not JSON: ${error.message}`);
    }
  };
  return { element, read };
}

const said = (value) => (typeof value === 'string' ? value : JSON.stringify(value));
const usual = (schema) => (schema.default === undefined || schema.default === null ? '' : said(schema.default));

/** The fields of an object's schema: `elements`, `read`, and `refuse` for the problems of a 422. */
export function fieldsOf(schema) {
  const required = schema.required ?? [];
  const fields = Object.entries(schema.properties ?? {}).map(([name, each]) => field(name, each, schema, required.includes(name)));
  return {
    elements: fields.map((each) => each.element),
    read() {
      const value = {};
      let wrong = null;
      for (const each of fields) {
        const { given, error } = attempt(each);
        each.refuse(error?.message);
        wrong ??= error && each;
        if (given !== undefined) value[each.name] = given;
      }
      if (wrong) throw Object.assign(new Error(`${wrong.name} does not fit`), { element: wrong.element });
      return value;
    },
    /** Show problems at their fields; returns those that are about none of them. */
    refuse(errors, prefix) {
      return errors.filter(({ field: at, message }) => {
        const found = fields.find((each) => at === prefix + each.name || at.startsWith(`${prefix}${each.name}.`));
        found?.refuse(message);
        return !found;
      });
    },
  };
}

function attempt(each) {
  try {
    return { given: each.read() };
  } catch (error) {
    return { error };
  }
}

/** One field for a value of that schema, whatever it is. */
export const fieldFor = (name, schema) => field(name, schema, schema, true);
