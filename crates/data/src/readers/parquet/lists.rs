//! Files whose rows hold lists, read without being written out first: a file of a megabyte can have
//! a row that names the same long text a million times.
//!
//! ```text
//!   schema with text in lists as plain bytes ── elements share the bytes of their page
//!   pages of lists ── counted per row ────────── no more values at once than memory has room for
//! ```

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ::parquet::basic::{ConvertedType, Repetition};
use ::parquet::bloom_filter::Sbbf;
use ::parquet::column::page::{Page, PageMetadata, PageReader};
use ::parquet::errors::{ParquetError, Result};
use ::parquet::file::metadata::{ParquetMetaData, RowGroupMetaData};
use ::parquet::file::reader::{FileReader, RowGroupReader, SerializedFileReader};
use ::parquet::file::serialized_reader::ReadOptionsBuilder;
use ::parquet::record::reader::RowIter;
use ::parquet::schema::types::{SchemaDescriptor, Type};

/// Most values of lists in the pages that are read for one row: more than writers put into pages, few
/// enough for memory.
const MOST_VALUES: u64 = 1 << 25;

/// Rows that are read ahead; with lists of thousands of values, more would be much.
const AHEAD: usize = 64;

/// The rows of a file with this schema. Text in lists is bytes in them; `values` are the values of
/// lists that have been read.
///
/// # Errors
/// When the footer does not fit the schema; later, when a page is damaged or there are too many
/// values.
pub(super) fn rows(file: File, schema: &Type, values: &Values) -> Result<RowIter<'static>> {
    let schema = SchemaDescriptor::new(Arc::new(without_text(schema, false)?));
    let options = ReadOptionsBuilder::new().with_parquet_schema(Arc::new(schema));
    let reader = Counted {
        inner: SerializedFileReader::new_with_options(file, options.build())?,
        values: values.clone(),
    };
    Ok(RowIter::from_file_into(Box::new(reader)).with_batch_size(AHEAD))
}

/// A schema with the text in its lists as plain bytes. The library makes a copy of each text, but
/// leaves bytes in the page.
fn without_text(of: &Type, is_listed: bool) -> Result<Type> {
    let info = of.get_basic_info();
    let is_repeated = info.has_repetition() && info.repetition() == Repetition::REPEATED;
    let is_listed = is_listed || is_repeated;
    let is_text = matches!(
        info.converted_type(),
        ConvertedType::UTF8 | ConvertedType::ENUM | ConvertedType::JSON
    );
    match of {
        Type::GroupType { basic_info, fields } => {
            let fields = fields.iter();
            let fields = fields.map(|field| without_text(field, is_listed).map(Arc::new));
            Ok(Type::GroupType {
                basic_info: basic_info.clone(),
                fields: fields.collect::<Result<_>>()?,
            })
        }
        Type::PrimitiveType { .. } if is_listed && is_text => {
            Type::primitive_type_builder(of.name(), of.get_physical_type())
                .with_repetition(info.repetition())
                .build()
        }
        Type::PrimitiveType { .. } => Ok(of.clone()),
    }
}

/// How many values of lists have been read for a row.
#[derive(Debug, Clone, Default)]
pub(super) struct Values(Arc<AtomicU64>);

impl Values {
    /// Begins to count anew.
    pub(super) fn reset(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    fn add(&self, more: u32) -> Result<()> {
        let more = u64::from(more);
        let values = self.0.fetch_add(more, Ordering::Relaxed) + more;
        match values <= MOST_VALUES {
            true => Ok(()),
            false => Err(ParquetError::General(format!(
                "the lists of a row and those stored with it have {values} values, expected at \
                 most {MOST_VALUES}; write the file with smaller pages"
            ))),
        }
    }
}

/// A reader of a file, a row group or a column that counts the values of lists.
struct Counted<T> {
    inner: T,
    values: Values,
}

impl FileReader for Counted<SerializedFileReader<File>> {
    fn metadata(&self) -> &ParquetMetaData {
        self.inner.metadata()
    }

    fn num_row_groups(&self) -> usize {
        self.inner.num_row_groups()
    }

    fn get_row_group(&self, i: usize) -> Result<Box<dyn RowGroupReader + '_>> {
        Ok(Box::new(Counted {
            inner: self.inner.get_row_group(i)?,
            values: self.values.clone(),
        }))
    }

    fn get_row_iter(&self, projection: Option<Type>) -> Result<RowIter<'_>> {
        RowIter::from_file(projection, self)
    }
}

impl RowGroupReader for Counted<Box<dyn RowGroupReader + '_>> {
    fn metadata(&self) -> &RowGroupMetaData {
        self.inner.metadata()
    }

    fn num_columns(&self) -> usize {
        self.inner.num_columns()
    }

    fn get_column_page_reader(&self, i: usize) -> Result<Box<dyn PageReader>> {
        let inner = self.inner.get_column_page_reader(i)?;
        let column = self.inner.metadata().column(i).column_descr();
        if column.max_rep_level() == 0 {
            return Ok(inner);
        }
        let values = self.values.clone();
        Ok(Box::new(Counted { inner, values }))
    }

    fn get_column_bloom_filter(&self, i: usize) -> Option<&Sbbf> {
        self.inner.get_column_bloom_filter(i)
    }

    fn get_row_iter(&self, projection: Option<Type>) -> Result<RowIter<'_>> {
        RowIter::from_row_group(projection, self)
    }
}

impl Iterator for Counted<Box<dyn PageReader>> {
    type Item = Result<Page>;

    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}

impl PageReader for Counted<Box<dyn PageReader>> {
    fn get_next_page(&mut self) -> Result<Option<Page>> {
        let page = self.inner.get_next_page()?;
        if let Some(page) = page.as_ref().filter(|page| page.is_data_page()) {
            self.values.add(page.num_values())?;
        }
        Ok(page)
    }

    fn peek_next_page(&mut self) -> Result<Option<PageMetadata>> {
        self.inner.peek_next_page()
    }

    fn skip_next_page(&mut self) -> Result<()> {
        self.inner.skip_next_page()
    }

    fn at_record_boundary(&mut self) -> Result<bool> {
        self.inner.at_record_boundary()
    }
}
